#include "model/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"

namespace pygpt {

namespace {

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

// Those whose bit is 0, or beyond the mask, become impossible. Where nothing else is possible, those that are left are
// equally likely. InvalidArgument: the mask leaves none.
void keep_allowed(std::vector<float>& logits, std::span<const std::uint32_t> mask) {
    constexpr float kImpossible = -std::numeric_limits<float>::infinity();
    constexpr std::size_t kBits = 32;
    bool is_any_allowed = false, is_any_possible = false;
    const auto each_allowed = [&](auto body) {
        for (std::size_t begin = 0; begin < logits.size(); begin += kBits) {
            const std::uint32_t bits = begin / kBits < mask.size() ? mask[begin / kBits] : 0;
            const std::size_t end = std::min(begin + kBits, logits.size());
            for (std::size_t i = begin; i < end; ++i) body(logits[i], ((bits >> (i - begin)) & 1u) != 0);
        }
    };
    each_allowed([&](float& l, bool is_allowed) {
        l = is_allowed ? l : kImpossible;
        is_any_allowed |= is_allowed;
        is_any_possible |= l != kImpossible;
    });
    if (!is_any_allowed) throw InvalidArgument("mask allows none of the " + std::to_string(logits.size()) + " tokens");
    if (!is_any_possible) each_allowed([](float& l, bool is_allowed) { l = is_allowed ? 0.0f : l; });
}

// The greatest of the logits. InvalidArgument: one is NaN.
float greatest(std::span<const float> logits) {
    constexpr std::size_t kLanes = 16;  // maxima that do not wait for each other
    std::array<float, kLanes> best;
    std::array<std::uint32_t, kLanes> nan{};
    best.fill(-std::numeric_limits<float>::infinity());
    const auto take = [&](std::size_t lane, float l) {
        best[lane] = l > best[lane] ? l : best[lane];
        nan[lane] |= static_cast<std::uint32_t>(l != l);
    };
    std::size_t i = 0;
    for (; i + kLanes <= logits.size(); i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) take(lane, logits[i + lane]);
    }
    for (; i < logits.size(); ++i) take(0, logits[i]);
    if (std::any_of(nan.begin(), nan.end(), std::identity())) {
        const auto at = std::find_if(logits.begin(), logits.end(), [](float l) { return std::isnan(l); });
        throw InvalidArgument("logits[" + std::to_string(at - logits.begin()) + "] is not a number");
    }
    return *std::max_element(best.begin(), best.end());
}

// Candidates in falling order of weight (rising id where equal), found and sorted only as far as they are asked for.
// Weights are from 0 to 1.
class Ranking {
public:
    explicit Ranking(const std::vector<float>& weights) : weights_(weights) {}

    // The n-th best, n < size().
    std::int32_t operator[](std::size_t n) {
        while (n >= sorted_) sort_more();
        return found_[n].id;
    }
    std::size_t size() const { return weights_.size(); }

private:
    struct Candidate {
        float weight;
        std::int32_t id;
        bool operator<(const Candidate& other) const {
            return weight > other.weight || (weight == other.weight && id < other.id);
        }
    };

    void sort_more() {
        if (sorted_ == found_.size()) find_more();
        const std::size_t more = std::min(found_.size(), std::max<std::size_t>(64, sorted_ * 4));
        const auto from = found_.begin() + static_cast<std::ptrdiff_t>(sorted_);
        const auto to = found_.begin() + static_cast<std::ptrdiff_t>(more);
        if (to != found_.end()) std::nth_element(from, to - 1, found_.end());
        std::sort(from, to);
        sorted_ = more;
    }

    // Those of the next lower weights: of a large vocabulary few are likely enough to be asked for.
    void find_more() {
        const float end = begin_;
        begin_ = begin_ > 0x1p-28f ? begin_ * 0x1p-4f : 0.0f;
        for (std::size_t i = 0; i < weights_.size(); ++i) {
            if (const float w = weights_[i]; w >= begin_ && w < end)
                found_.push_back({w, static_cast<std::int32_t>(i)});
        }
    }

    const std::vector<float>& weights_;
    std::vector<Candidate> found_;  // all whose weights are at least begin_
    std::size_t sorted_ = 0;        // so many of them
    float begin_ = 2.0f;
};

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
    if (!mask.empty()) keep_allowed(out, mask);
    return out;
}

int Sampler::draw(const Kernels& kernels, std::span<const float> logits, std::span<const std::int32_t> history,
                  std::size_t n_prompt, std::uint64_t sequence, std::uint64_t position,
                  std::span<const std::uint32_t> mask) const {
    std::vector<float> weights = changed(logits, history, n_prompt, mask);
    if (!weights.empty()) logits = weights;
    const float top = greatest(logits);
    if (options_.temperature == 0.0 || options_.top_k == 1) {
        return static_cast<int>(std::find(logits.begin(), logits.end(), top) - logits.begin());
    }

    // The best get weight 1, infinite ones too, beside which finite ones have none.
    const auto scaled = [&](float l) {
        return (static_cast<double>(l) - static_cast<double>(top)) / options_.temperature;
    };
    weights.resize(logits.size());
    std::transform(logits.begin(), logits.end(), weights.begin(),
                   [&](float l) { return l == top ? 0.0f : static_cast<float>(scaled(l)); });
    kernels.exp(weights.data(), weights.data(), static_cast<std::ptrdiff_t>(weights.size()));

    Ranking ranking(weights);
    std::size_t kept = ranking.size();
    if (options_.top_k) kept = std::min(kept, static_cast<std::size_t>(*options_.top_k));
    const bool ranked = kept < ranking.size() || options_.top_p || options_.min_p;
    const auto id_at = [&](std::size_t i) { return ranked ? ranking[i] : static_cast<std::int32_t>(i); };
    const auto weight_at = [&](std::size_t i) { return static_cast<double>(weights[index(id_at(i))]); };
    if (options_.top_p) {
        double total = 0.0, sum = 0.0;
        if (kept < ranking.size()) {
            for (std::size_t i = 0; i < kept; ++i) total += weight_at(i);
        } else {
            for (const float w : weights) total += static_cast<double>(w);
        }
        std::size_t n = 0;
        while (n < kept && (n == 0 || sum < *options_.top_p * total)) sum += weight_at(n++);
        kept = n;
    }
    if (options_.min_p) {
        std::size_t n = 1;
        while (n < kept && weight_at(n) >= *options_.min_p) ++n;
        kept = n;
    }

    double total = 0.0;
    for (std::size_t i = 0; i < kept; ++i) total += weight_at(i);
    const double u = static_cast<double>(philox(options_.seed, position, sequence) >> 11) * 0x1p-53;
    double left = u * total;
    for (std::size_t i = 0; i < kept; ++i) {
        left -= weight_at(i);
        if (left < 0.0) return id_at(i);
    }
    return id_at(0);  // only through rounding
}

}  // namespace pygpt
