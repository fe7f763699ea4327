#include "training/loss.h"

#include <algorithm>

#include "base/lanes.h"
#include "threads/parallel.h"

namespace pygpt::training {

namespace {

// Logits that a task takes at least: some microseconds of work.
constexpr int kGrain = 8192;

}  // namespace

double cross_entropy(const Kernels& inference, const TrainingKernels& kernels, Team& team, Scratch& scratch,
                     const LossCall& c) {
    const bool plain = c.logit_scale == 1.0f && c.logit_cap == 0.0f;
    const auto width = static_cast<std::size_t>(round_up(c.n_vocab, 16)), rows = static_cast<std::size_t>(c.rows);
    const auto threads = static_cast<std::size_t>(team.size());
    double* const nats = scratch.take<double>(rows + (plain ? 0 : width * threads));  // room for floats, and to spare
    float* const kept = reinterpret_cast<float*>(nats + c.rows);
    const int step = std::max(1, kGrain / std::max(1, c.n_vocab));
    team.parallel_for(ceil_div(c.rows, step), [&](int task, int thread) {
        float* const logits = kept + static_cast<std::size_t>(thread) * width;
        for (int row = task * step; row < std::min(c.rows, (task + 1) * step); ++row) {
            float* const x = c.products + static_cast<std::ptrdiff_t>(row) * c.n_vocab;
            if (c.targets[row] < 0) {
                nats[row] = 0.0;
                if (c.gradient) std::fill(x, x + c.n_vocab, 0.0f);
                continue;
            }
            if (!plain) {
                inference.scale_and_cap(x, c.logit_scale, c.logit_cap, c.n_vocab);
                std::copy_n(x, c.n_vocab, logits);
            }
            nats[row] = kernels.cross_entropy(x, c.n_vocab, c.targets[row], c.scale, c.gradient);
            if (!plain && c.gradient) {
                kernels.scale_and_cap_backward(logits, x, c.logit_scale, c.logit_cap, c.n_vocab);
            }
        }
    });
    double sum = 0.0;
    for (int row = 0; row < c.rows; ++row) sum += nats[row];
    return sum;
}

}  // namespace pygpt::training
