#include "model/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
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

// Candidates in falling order of weight (rising id where equal), sorted only as far as they are asked for.
class Ranking {
public:
    explicit Ranking(const std::vector<float>& weights) : weights_(weights), ids_(weights.size()) {
        std::iota(ids_.begin(), ids_.end(), 0);
    }

    // The n-th best, n < size().
    std::int32_t operator[](std::size_t n) {
        while (n >= sorted_) {
            const std::size_t more = std::min(ids_.size(), std::max<std::size_t>(64, sorted_ * 4));
            const auto before = [&](std::int32_t a, std::int32_t b) {
                const float x = weights_[index(a)], y = weights_[index(b)];
                return x > y || (x == y && a < b);
            };
            const auto from = ids_.begin() + static_cast<std::ptrdiff_t>(sorted_);
            const auto to = ids_.begin() + static_cast<std::ptrdiff_t>(more);
            if (to != ids_.end()) std::nth_element(from, to - 1, ids_.end(), before);
            std::sort(from, to, before);
            sorted_ = more;
        }
        return ids_[n];
    }
    std::size_t size() const { return ids_.size(); }

private:
    const std::vector<float>& weights_;
    std::vector<std::int32_t> ids_;
    std::size_t sorted_ = 0;
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

void Sampler::change(std::vector<float>& logits, std::span<const std::int32_t> history, std::size_t n_prompt) const {
    const SamplerOptions& o = options_;
    if (o.repetition_penalty != 1.0) {  // positive logits shrink, negative ones grow
        const auto penalty = static_cast<float>(o.repetition_penalty);
        each_counted(logits, history, [&](float& l, std::size_t) { l = l > 0 ? l / penalty : l * penalty; });
    }
    if (o.presence_penalty != 0.0 || o.frequency_penalty != 0.0) {
        each_counted(logits, history.subspan(std::min(n_prompt, history.size())), [&](float& l, std::size_t count) {
            l -= static_cast<float>(o.presence_penalty + o.frequency_penalty * static_cast<double>(count));
        });
    }
    for (const auto& [id, bias] : o.logit_bias) {
        if (id >= 0 && index(id) < logits.size()) logits[index(id)] += static_cast<float>(bias);
    }
}

int Sampler::draw(const Kernels& kernels, std::span<const float> logits, std::span<const std::int32_t> history,
                  std::size_t n_prompt, std::uint64_t sequence, std::uint64_t position) const {
    std::vector<float> weights(logits.begin(), logits.end());
    change(weights, history, n_prompt);
    for (std::size_t i = 0; i < weights.size(); ++i) {
        if (std::isnan(weights[i])) throw InvalidArgument("logits[" + std::to_string(i) + "] is not a number");
    }
    const auto best = std::max_element(weights.begin(), weights.end());
    if (options_.temperature == 0.0 || options_.top_k == 1) return static_cast<int>(best - weights.begin());

    // The best get weight 1, infinite ones too, beside which finite ones have none.
    const float top = *best;
    const auto scaled = [&](float l) {
        return (static_cast<double>(l) - static_cast<double>(top)) / options_.temperature;
    };
    for (float& w : weights) w = w == top ? 0.0f : static_cast<float>(scaled(w));
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
