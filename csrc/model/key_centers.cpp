#include "model/key_centers.h"

#include <algorithm>

#include "base/lanes.h"
#include "kernels/table.h"
#include "ops/rotary.h"

namespace pygpt {

namespace {

constexpr double kMostTurn = 0.5;  // radians from the middle of a segment to its end

// The bias without the dimensions that turn too fast for a segment to have a center.
std::vector<float> slow_part(const ModelConfig& c, const float* bias, const Rope* rope) {
    std::vector<float> slow(bias, bias + c.kv_width());
    if (rope == nullptr) return slow;
    const int pairs = static_cast<int>(rope->inv_freq.size());
    for (int i = 0; i < pairs; ++i) {
        if (rope->inv_freq[static_cast<std::size_t>(i)] * kSegmentPositions / 2 <= kMostTurn) continue;
        const int first = rope->interleaved ? 2 * i : i, second = rope->interleaved ? 2 * i + 1 : i + pairs;
        for (int head = 0; head < c.n_kv_head; ++head) {
            slow[static_cast<std::size_t>(head * c.head_dim + first)] = 0.0f;
            slow[static_cast<std::size_t>(head * c.head_dim + second)] = 0.0f;
        }
    }
    return slow;
}

}  // namespace

KeyCenters::KeyCenters(const ModelConfig& config, const Weights& weights, const PageLayout& layout,
                       const Kernels& kernels, const DistinctRopes& ropes)
    : width_(config.kv_width()) {
    if (!config.keys_keep_bias()) return;
    const int segments = ceil_div(config.n_ctx, kSegmentPositions);
    for (int layer = 0; layer < config.n_layer(); ++layer) {
        std::vector<float>& centers = layers_.emplace_back();
        if (!layout.format(layer).centered) continue;
        const auto at = static_cast<std::size_t>(layer);
        const float* const bias = weights.blocks[at].qkv.bias.data() + config.q_width();
        const Rope* const rope = config.layers[at].rope ? &ropes.distinct(ropes.of_layer(layer)) : nullptr;
        const std::vector<float> slow = slow_part(config, bias, rope);
        const int n = rope == nullptr ? 1 : segments;
        centers.reserve(static_cast<std::size_t>(n) * slow.size());
        for (int s = 0; s < n; ++s) {
            centers.insert(centers.end(), slow.begin(), slow.end());
            if (rope == nullptr) break;
            std::vector<float> cos(rope->inv_freq.size()), sin(rope->inv_freq.size());
            rotary_table(s * kSegmentPositions + kSegmentPositions / 2, rope->inv_freq, rope->attention_factor,
                         cos.data(), sin.data());
            kernels.rope({centers.data() + s * std::ptrdiff_t{width_}, config.n_kv_head, config.head_dim, rope->dim(),
                          rope->interleaved, cos.data(), sin.data()});
        }
    }
}

}  // namespace pygpt
