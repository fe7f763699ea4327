#include "ops/training_loss.h"

#include <algorithm>

#include "threads/parallel.h"

namespace pygpt::training {

double cross_entropy_rows(const Kernels& kernels, Team& team, Scratch& scratch, float* logits,
                          const std::int32_t* targets, int rows, int n_vocab, float scale, bool gradient) {
    double* const nats = scratch.take<double>(static_cast<std::size_t>(rows));
    team.parallel_for(rows, [&](int row, int) {
        float* const x = logits + static_cast<std::ptrdiff_t>(row) * n_vocab;
        nats[row] = targets[row] < 0 ? 0.0 : kernels.training.cross_entropy(x, n_vocab, targets[row], scale, gradient);
        if (targets[row] < 0 && gradient) std::fill(x, x + n_vocab, 0.0f);
    });
    double sum = 0.0;
    for (int row = 0; row < rows; ++row) sum += nats[row];
    return sum;
}

}  // namespace pygpt::training
