// How the numbers of a key make up for each other's rounding, where queries lie in few directions.
#pragma once

#include <cstddef>
#include <vector>

#include "base/buffer.h"
#include "kernels/attention.h"

namespace pygpt {

struct Model;

// A key's rounding error e counts only in products with queries. Where M is the mean of a query times itself, that is
// on average e^T M e. With M = (I + A)^T D (I + A), where A is strictly lower triangular and D diagonal, and each
// number rounded after what A makes of the errors before it was taken off, (I + A) e is what single roundings leave,
// and their squares count by D: whose trace is a fraction of M's where queries lie in few directions, as they do around
// a large bias (Qwen2). That is the rounding of weights in GPTQ and QuIP (arXiv:2307.13304), whose M comes of data.
// Here it comes of the model's own matrices: queries of inputs that are +-1 at random, as a norm leaves them, of
// positions anywhere among some thousands.
class KeyFeedback {
public:
    // Without feedback.
    KeyFeedback() = default;
    // Of the layers whose keys keep a bias and turn, and whose format is centered.
    explicit KeyFeedback(const Model& model);

    // Of a layer's heads at positions of a segment, one after another, see StoreArgs::feedback; null: it has none.
    const float* at(int layer, int segment) const {
        if (layers_.empty() || layers_[static_cast<std::size_t>(layer)].size() == 0) return nullptr;
        return layers_[static_cast<std::size_t>(layer)].as<float>() + segment / block_segments_ * block_floats_;
    }

private:
    int block_segments_ = 1;  // that have one matrix a head
    std::ptrdiff_t block_floats_ = 0;
    std::vector<Buffer> layers_;
};

}  // namespace pygpt
