// The rotary embeddings of a model's layers, each of which needs a table of angles once.
#pragma once

#include <algorithm>
#include <vector>

#include "model/config.h"

namespace pygpt {

class DistinctRopes {
public:
    explicit DistinctRopes(const ModelConfig& config) {
        for (const LayerConfig& layer : config.layers) {
            const auto found = std::find(ropes_.begin(), ropes_.end(), layer.rope.value_or(Rope{}));
            of_layer_.push_back(static_cast<std::size_t>(found - ropes_.begin()));
            if (layer.rope && found == ropes_.end()) ropes_.push_back(*layer.rope);
        }
    }

    std::size_t size() const { return ropes_.size(); }
    const Rope& distinct(std::size_t i) const { return ropes_[i]; }
    // Which of them a layer has that has one.
    std::size_t of_layer(int layer) const { return of_layer_[static_cast<std::size_t>(layer)]; }

private:
    std::vector<Rope> ropes_;
    std::vector<std::size_t> of_layer_;
};

}  // namespace pygpt
