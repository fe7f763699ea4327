// What the keys of a head have in common at nearby positions, where the model says so.
#pragma once

#include <cstddef>
#include <vector>

#include "model/config.h"
#include "model/kv_cache.h"
#include "model/ropes.h"
#include "model/weights.h"

namespace pygpt {

struct Kernels;

// Some models give keys a bias many times as large as what tokens make of them (Qwen2), mostly in dimensions that turn
// slowly. A cache with few bits then spends them on it. So such a cache keeps a key less its head's center: the bias,
// in dimensions that turn by less than half a radian from the middle of a segment to its end, turned as in the middle.
// Queries add what the center gives to a score, so centers change nothing but what is rounded. They depend on the
// weights and the position alone.
class KeyCenters {
public:
    // Without centers.
    KeyCenters() = default;
    // Of the layers whose format is centered.
    KeyCenters(const ModelConfig& config, const Weights& weights, const PageLayout& layout, const Kernels& kernels,
               const DistinctRopes& ropes);

    // Of a layer's heads at positions of a segment, (n_kv_head, head_dim); null: it has none.
    const float* at(int layer, int segment) const {
        if (layers_.empty() || layers_[static_cast<std::size_t>(layer)].empty()) return nullptr;
        return layers_[static_cast<std::size_t>(layer)].data() + segment * stride(layer);
    }
    // From a segment's to the next one's; 0 where all are the same.
    std::ptrdiff_t stride(int layer) const {
        return layers_.empty() || static_cast<int>(layers_[static_cast<std::size_t>(layer)].size()) <= width_ ? 0
                                                                                                              : width_;
    }

private:
    int width_ = 0;
    std::vector<std::vector<float>> layers_;
};

}  // namespace pygpt
