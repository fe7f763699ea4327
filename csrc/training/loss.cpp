#include "training/loss.h"

#include <algorithm>

#include "base/lanes.h"
#include "threads/parallel.h"

namespace pygpt::training {

namespace {

// Logits that a task takes at least: some microseconds of work.
constexpr int kGrain = 8192;

}  // namespace

double cross_entropy(const TrainingKernels& kernels, Team& team, Scratch& scratch, float* logits,
                     const std::int32_t* targets, int rows, int n_vocab, float scale, bool gradient) {
    double* const nats = scratch.take<double>(static_cast<std::size_t>(rows));
    const int step = std::max(1, kGrain / std::max(1, n_vocab));
    team.parallel_for(ceil_div(rows, step), [&](int task, int) {
        for (int row = task * step; row < std::min(rows, (task + 1) * step); ++row) {
            float* const x = logits + static_cast<std::ptrdiff_t>(row) * n_vocab;
            if (targets[row] >= 0) {
                nats[row] = kernels.cross_entropy(x, n_vocab, targets[row], scale, gradient);
            } else {
                nats[row] = 0.0;
                if (gradient) std::fill(x, x + n_vocab, 0.0f);
            }
        }
    });
    double sum = 0.0;
    for (int row = 0; row < rows; ++row) sum += nats[row];
    return sum;
}

}  // namespace pygpt::training
