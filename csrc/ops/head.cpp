#include "ops/head.h"

#include <algorithm>

#include "threads/parallel.h"

namespace pygpt {

namespace {

bool plain(const HeadCall& call) { return call.scale == 1.0f && call.cap == 0.0f; }

// Calls body(row, logits, n) for each row of a part: its n values, which are logits by then.
template <class F>
void each_row(const Kernels& kernels, const HeadCall& call, const LinearPart& part, F body) {
    const int n = std::min(part.panel_end * 16, call.product.weight.n()) - part.panel_begin * 16;
    for (int row = part.row_begin; row < part.row_end; ++row) {
        float* const x = part.y + (row - part.row_begin) * part.ldy;
        if (!plain(call)) kernels.scale_and_cap(x, call.scale, call.cap, n);
        body(row, x, n);
    }
}

}  // namespace

void logits(const Kernels& kernels, Team& team, const HeadCall& call) {
    if (plain(call)) return linear(team, call.product);
    linear(team, call.product,
           [&](const LinearPart& part) { each_row(kernels, call, part, [](int, const float*, int) {}); });
}

void log_probs(const Kernels& kernels, Team& team, const HeadCall& call, std::span<const int> targets,
               const BlockSums& memory, float* scratch, float* out) {
    linears(team, {&call.product, 1}, scratch, [&](int, const LinearPart& part) {
        const int first = part.panel_begin * 16, block = first / kSoftmaxBlock;
        each_row(kernels, call, part, [&](int row, const float* x, int n) {
            kernels.softmax_blocks(x, memory.maxima.row(row) + block, memory.sums.row(row) + block, n);
            const int at = targets[static_cast<std::size_t>(row)] - first;
            if (at >= 0 && at < n) out[row] = x[at];
        });
    });
    const int blocks = count_softmax_blocks(call.product.weight.n());
    for_rows(team, call.product.rows, [&](int row) {
        const SoftmaxSum sum = kernels.softmax_sum(memory.maxima.row(row), memory.sums.row(row), blocks);
        out[row] = out[row] - sum.maximum - sum.log_sum;
    });
}

}  // namespace pygpt
