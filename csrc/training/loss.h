// The head's loss and its gradient.
#pragma once

#include <cstdint>

#include "kernels/training/training_kernels.h"
#include "training/row_passes.h"

namespace pygpt::training {

struct LossCall {
    float* products;  // (rows, n_vocab): logits before the model's scale and cap
    const std::int32_t* targets;
    int rows, n_vocab;
    float scale;  // of the gradient
    bool gradient;
    float logit_scale, logit_cap;  // see Kernels::scale_and_cap
};

// The sum of -log softmax(logits[r])[targets[r]] over rows with a target >= 0. With `gradient` the products become the
// gradient of `scale` times that sum; without it they are used up.
double cross_entropy(const Kernels& inference, const TrainingKernels& kernels, Team& team, Scratch& scratch,
                     const LossCall& call);

}  // namespace pygpt::training
