#include "model/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"

namespace pygpt {

namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();
constexpr std::size_t kMaskBits = 32;  // of a word

std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }

// body(logit, count) for each id that occurs and has a logit.
template <class Body>
void each_counted(std::vector<float>& logits, std::span<const std::int32_t> history, Body body) {
    std::vector<std::int32_t> ids(history.begin(), history.end());
    std::sort(ids.begin(), ids.end());
    for (std::size_t i = 0, next = 0; i < ids.size(); i = next) {
        while (next < ids.size() && ids[next] == ids[i]) ++next;
        if (ids[i] >= 0 && index(ids[i]) < logits.size()) body(logits[index(ids[i])], next - i);
    }
}

// body(index, bits) for each 32 logits that a mask has bits for, and for those that it is too short for.
template <class Body>
void each_word(std::size_t n, std::span<const std::uint32_t> mask, Body body) {
    for (std::size_t begin = 0; begin < n; begin += kMaskBits) {
        const std::uint32_t beyond = n - begin < kMaskBits ? ~0u << (n - begin) : 0u;
        const std::size_t word = begin / kMaskBits;
        body(begin, word < mask.size() ? mask[word] & ~beyond : 0u, beyond);
    }
}

// Those whose bit is 0 become impossible. InvalidArgument: the mask leaves none.
void forbid(std::vector<float>& logits, std::span<const std::uint32_t> mask) {
    bool is_any_allowed = false;
    each_word(logits.size(), mask, [&](std::size_t begin, std::uint32_t allowed, std::uint32_t beyond) {
        is_any_allowed |= allowed != 0;
        for (std::uint32_t left = ~(allowed | beyond); left != 0; left &= left - 1) {
            logits[begin + static_cast<std::size_t>(std::countr_zero(left))] = kImpossible;
        }
    });
    if (!is_any_allowed) throw InvalidArgument("mask allows none of the " + std::to_string(logits.size()) + " tokens");
}

// Where nothing that the mask allows is possible by its logit: those are equally likely.
void allow(std::vector<float>& logits, std::span<const std::uint32_t> mask) {
    each_word(logits.size(), mask, [&](std::size_t begin, std::uint32_t allowed, std::uint32_t) {
        for (std::uint32_t left = allowed; left != 0; left &= left - 1) {
            logits[begin + static_cast<std::size_t>(std::countr_zero(left))] = 0.0f;
        }
    });
}

// The greatest of the logits. InvalidArgument: one is NaN.
float greatest(std::span<const float> logits) {
    constexpr std::size_t kLanes = 64;  // maxima that do not wait for each other, in loops that become vectors
    std::array<float, kLanes> best;
    std::array<std::uint32_t, kLanes> nan{};
    best.fill(-std::numeric_limits<float>::infinity());
    std::size_t i = 0;
    for (; i + kLanes <= logits.size(); i += kLanes) {
        const float* const l = logits.data() + i;
        for (std::size_t lane = 0; lane < kLanes; ++lane) best[lane] = l[lane] > best[lane] ? l[lane] : best[lane];
        for (std::size_t lane = 0; lane < kLanes; ++lane) nan[lane] |= static_cast<std::uint32_t>(l[lane] != l[lane]);
    }
    for (; i < logits.size(); ++i) {
        best[0] = logits[i] > best[0] ? logits[i] : best[0];
        nan[0] |= static_cast<std::uint32_t>(logits[i] != logits[i]);
    }
    if (std::any_of(nan.begin(), nan.end(), std::identity())) {
        const auto at = std::find_if(logits.begin(), logits.end(), [](float l) { return std::isnan(l); });
        throw InvalidArgument("logits[" + std::to_string(at - logits.begin()) + "] is not a number");
    }
    return *std::max_element(best.begin(), best.end());
}

// exp((logit - the greatest) / temperature) of a row, from 0 to 1. Kept are the sums of blocks alone: of a large
// vocabulary few tokens are likely enough to be looked at one by one.
class Weights {
public:
    static constexpr std::size_t kBlock = kSoftmaxBlock;

    Weights(const Kernels& kernels, std::span<const float> logits, float top, double temperature)
        : kernels_(kernels),
          logits_(logits),
          top_(top),
          factor_(factor(temperature)),
          greatest_(count_softmax_blocks(logits.size())),
          sums_(greatest_.size()) {
        constexpr std::size_t kValues = 16 * kBlock;
        std::array<float, kValues> x;
        for (std::size_t from = 0; from < logits.size(); from += kValues) {
            const std::size_t n = std::min(kValues, logits.size() - from);
            scale(from, n, x.data());
            kernels.softmax_blocks(x.data(), greatest_.data() + from / kBlock, sums_.data() + from / kBlock,
                                   static_cast<std::ptrdiff_t>(n));
        }
        std::vector<float> factors(greatest_.size());
        kernels.exp(greatest_.data(), factors.data(), static_cast<std::ptrdiff_t>(factors.size()));
        for (std::size_t b = 0; b < sums_.size(); ++b) sums_[b] *= factors[b];
    }

    std::size_t size() const { return logits_.size(); }
    std::size_t blocks() const { return sums_.size(); }
    // Of a block's weights.
    double sum(std::size_t block) const { return static_cast<double>(sums_[block]); }
    double sum() const {
        double total = 0.0;
        for (const float s : sums_) total += static_cast<double>(s);
        return total;
    }
    // The exponent of a block's greatest weight.
    float greatest(std::size_t block) const { return greatest_[block]; }

    struct Block {
        std::size_t begin, size;
        std::array<float, kBlock> exponents, weights;
    };
    Block block(std::size_t b) const {
        Block out;
        out.begin = b * kBlock;
        out.size = std::min(kBlock, logits_.size() - out.begin);
        scale(out.begin, out.size, out.exponents.data());
        kernels_.exp(out.exponents.data(), out.weights.data(), static_cast<std::ptrdiff_t>(out.size));
        return out;
    }

private:
    // Neither 0 nor infinite: what is infinitely less likely than the best would be no number times 0.
    static float factor(double temperature) {
        using Limits = std::numeric_limits<float>;
        return static_cast<float>(std::clamp(1.0 / temperature, double{Limits::min()}, double{Limits::max()}));
    }

    // The best get 0, infinite ones too, beside which finite ones have no weight.
    void scale(std::size_t from, std::size_t n, float* out) const {
        const float* const l = logits_.data() + from;
        for (std::size_t i = 0; i < n; ++i) {  // a choice between floats would be a branch
            const auto scaled = std::bit_cast<std::uint32_t>((l[i] - top_) * factor_);
            const std::uint32_t keep = l[i] == top_ ? 0u : ~0u;
            out[i] = std::bit_cast<float>(scaled & keep);
        }
    }

    const Kernels& kernels_;
    std::span<const float> logits_;
    float top_, factor_;
    std::vector<float> greatest_, sums_;  // of each block
};

struct Candidate {
    float exponent;
    float weight;
    std::int32_t id;
    bool operator<(const Candidate& other) const {
        return exponent > other.exponent || (exponent == other.exponent && id < other.id);
    }
};

// Candidates in falling order of weight (rising id where equal), found and sorted only as far as they are asked for.
class Ranking {
public:
    explicit Ranking(const Weights& weights) : weights_(weights) {}

    // The n-th best, n < size().
    const Candidate& operator[](std::size_t n) {
        while (n >= sorted_) sort_more();
        return found_[n];
    }
    std::size_t size() const { return weights_.size(); }

private:
    void sort_more() {
        if (sorted_ == found_.size()) find_more();
        const std::size_t more = std::min(found_.size(), std::max<std::size_t>(64, sorted_ * 4));
        const auto from = found_.begin() + static_cast<std::ptrdiff_t>(sorted_);
        const auto to = found_.begin() + static_cast<std::ptrdiff_t>(more);
        if (to != found_.end()) std::nth_element(from, to - 1, found_.end());
        std::sort(from, to);
        sorted_ = more;
    }

    // Those of the next lower weights.
    void find_more() {
        constexpr float kStep = 2.8f, kLast = 20.0f;  // times 16; 5e8
        const float end = begin_;
        begin_ = begin_ > -kLast ? std::min(begin_, 0.0f) - kStep : -std::numeric_limits<float>::infinity();
        for (std::size_t b = 0; b < weights_.blocks(); ++b) {
            if (!(weights_.greatest(b) >= begin_)) continue;
            const Weights::Block block = weights_.block(b);
            for (std::size_t i = 0; i < block.size; ++i) {
                const float exponent = block.exponents[i];
                if (exponent >= begin_ && exponent < end)
                    found_.push_back({exponent, block.weights[i], static_cast<std::int32_t>(block.begin + i)});
            }
        }
    }

    const Weights& weights_;
    std::vector<Candidate> found_;  // all whose exponents are at least begin_
    std::size_t sorted_ = 0;        // so many of them
    float begin_ = std::numeric_limits<float>::infinity();
};

// The token at `share`, from 0 to 1, of all weights, one after the other.
std::int32_t at_share(const Weights& weights, double share) {
    double left = share * weights.sum();
    std::size_t last = 0;  // the last block with any weight: beyond it only rounding leads
    for (std::size_t b = 0; b < weights.blocks(); ++b) {
        if (weights.sum(b) == 0.0) continue;
        last = b;
        if (left < weights.sum(b)) break;
        left -= weights.sum(b);
    }
    const Weights::Block block = weights.block(last);
    std::size_t found = 0;
    for (std::size_t i = 0; i < block.size; ++i) {
        if (block.weights[i] == 0.0f) continue;
        found = i;
        left -= static_cast<double>(block.weights[i]);
        if (left < 0.0) break;
    }
    return static_cast<std::int32_t>(block.begin + found);
}

}  // namespace

std::uint64_t philox(std::uint64_t key, std::uint64_t counter_low, std::uint64_t counter_high) {
    std::uint32_t c[4] = {static_cast<std::uint32_t>(counter_low), static_cast<std::uint32_t>(counter_low >> 32),
                          static_cast<std::uint32_t>(counter_high), static_cast<std::uint32_t>(counter_high >> 32)};
    std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t a = std::uint64_t{0xD2511F53u} * c[0], b = std::uint64_t{0xCD9E8D57u} * c[2];
        const std::uint32_t next[4] = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(b),
                                       static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(a)};
        std::copy(next, next + 4, c);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (static_cast<std::uint64_t>(c[1]) << 32) | c[0];
}

std::vector<float> Sampler::changed(std::span<const float> logits, std::span<const std::int32_t> history,
                                    std::size_t n_prompt, std::span<const std::uint32_t> mask) const {
    const SamplerOptions& o = options_;
    const bool counts = o.presence_penalty != 0.0 || o.frequency_penalty != 0.0;
    if (o.repetition_penalty == 1.0 && !counts && o.logit_bias.empty() && mask.empty()) return {};
    std::vector<float> out(logits.begin(), logits.end());
    if (o.repetition_penalty != 1.0) {  // positive logits shrink, negative ones grow
        const auto penalty = static_cast<float>(o.repetition_penalty);
        each_counted(out, history, [&](float& l, std::size_t) { l = l > 0 ? l / penalty : l * penalty; });
    }
    if (counts) {
        each_counted(out, history.subspan(std::min(n_prompt, history.size())), [&](float& l, std::size_t count) {
            l -= static_cast<float>(o.presence_penalty + o.frequency_penalty * static_cast<double>(count));
        });
    }
    for (const auto& [id, bias] : o.logit_bias) {
        if (id >= 0 && index(id) < out.size()) out[index(id)] += static_cast<float>(bias);
    }
    if (!mask.empty()) forbid(out, mask);
    return out;
}

int Sampler::draw(const Kernels& kernels, std::span<const float> logits, std::span<const std::int32_t> history,
                  std::size_t n_prompt, std::uint64_t sequence, std::uint64_t position,
                  std::span<const std::uint32_t> mask) const {
    std::vector<float> other = changed(logits, history, n_prompt, mask);
    if (!other.empty()) logits = other;
    float top = greatest(logits);
    if (top == kImpossible && !mask.empty()) {
        allow(other, mask);
        top = 0.0f;
    }
    if (options_.temperature == 0.0 || options_.top_k == 1) {
        return static_cast<int>(std::find(logits.begin(), logits.end(), top) - logits.begin());
    }

    const Weights weights(kernels, logits, top, options_.temperature);
    const double share = static_cast<double>(philox(options_.seed, position, sequence) >> 11) * 0x1p-53;
    std::size_t kept = logits.size();
    if (options_.top_k) kept = std::min(kept, static_cast<std::size_t>(*options_.top_k));
    const bool has_top_k = kept < logits.size();
    if (!has_top_k && !options_.top_p && !options_.min_p) return at_share(weights, share);

    Ranking ranking(weights);
    const auto weight_at = [&](std::size_t i) { return static_cast<double>(ranking[i].weight); };
    const auto sum_of = [&](std::size_t n) {
        double sum = 0.0;
        for (std::size_t i = 0; i < n; ++i) sum += weight_at(i);
        return sum;
    };
    if (options_.top_p) {
        const double wanted = *options_.top_p * (has_top_k ? sum_of(kept) : weights.sum());
        std::size_t n = 0;
        for (double sum = 0.0; n < kept && (n == 0 || sum < wanted);) sum += weight_at(n++);
        kept = n;
    }
    if (options_.min_p) {
        std::size_t n = 1;
        while (n < kept && weight_at(n) >= *options_.min_p) ++n;
        kept = n;
    }
    double left = share * sum_of(kept);
    for (std::size_t i = 0; i < kept; ++i) {
        left -= weight_at(i);
        if (left < 0.0) return ranking[i].id;
    }
    return ranking[0].id;  // only through rounding
}

void draw_all(const Kernels& kernels, const Threads& threads, std::span<const Draw> draws, std::span<int> tokens) {
    constexpr std::size_t kAlone = 4;  // fewer take less time than it takes to wake a team
    const auto draw = [&](std::size_t i) {
        const Draw& d = draws[i];
        tokens[i] = d.sampler->draw(kernels, d.logits, d.history, d.n_prompt, d.sequence, d.position, d.mask);
    };
    if (draws.size() < kAlone) {
        for (std::size_t i = 0; i < draws.size(); ++i) draw(i);
        return;
    }
    threads.run([&](Team& team) {
        team.parallel_for(static_cast<int>(draws.size()), [&](int i, int) { draw(static_cast<std::size_t>(i)); });
    });
}

}  // namespace pygpt
