// The head's loss and its gradient.
#pragma once

#include <cstdint>

#include "kernels/training/training_kernels.h"
#include "training/row_passes.h"

namespace pygpt::training {

// The sum of -log softmax(logits[r])[targets[r]] over rows with a target >= 0. With `gradient` the logits (rows,
// n_vocab) become the gradient of `scale` times that sum.
double cross_entropy(const TrainingKernels& kernels, Team& team, Scratch& scratch, float* logits,
                     const std::int32_t* targets, int rows, int n_vocab, float scale, bool gradient);

}  // namespace pygpt::training
