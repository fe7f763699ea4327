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

// Whether x[at] is the first of the greatest of its softmax block; x, n values, begins with a block.
bool leads_block(const float* x, int at, int n) {
    const int begin = at / kSoftmaxBlock * kSoftmaxBlock;
    return std::max_element(x + begin, x + std::min(begin + kSoftmaxBlock, n)) == x + at;
}

}  // namespace

void logits(const Kernels& kernels, Team& team, const HeadCall& call) {
    if (plain(call)) return linear(team, call.product);
    linear(team, call.product,
           [&](const LinearPart& part) { each_row(kernels, call, part, [](int, const float*, int) {}); });
}

void score(const Kernels& kernels, Team& team, const HeadCall& call, std::span<const Targets> targets,
           const BlockSums& memory, float* scratch) {
    linears(team, {&call.product, 1}, scratch, [&](int, const LinearPart& part) {
        const int first = part.panel_begin * 16, block = first / kSoftmaxBlock;
        each_row(kernels, call, part, [&](int row, const float* x, int n) {
            kernels.softmax_blocks(x, memory.maxima.row(row) + block, memory.sums.row(row) + block, n);
            float* out = targets[static_cast<std::size_t>(row)].out;
            for (const int token : targets[static_cast<std::size_t>(row)].tokens) {
                if (token >= first && token < first + n) {
                    out[0] = x[token - first];
                    out[1] = leads_block(x, token - first, n) ? 1.0f : 0.0f;
                }
                out += kScoreWidth;
            }
        });
    });
    const int blocks = count_softmax_blocks(call.product.weight.n());
    for_rows(team, call.product.rows, [&](int row) {
        const float* const maxima = memory.maxima.row(row);
        const SoftmaxSum sum = kernels.softmax_sum(maxima, memory.sums.row(row), blocks);
        const std::ptrdiff_t likeliest = std::max_element(maxima, maxima + blocks) - maxima;
        float* out = targets[static_cast<std::size_t>(row)].out;
        for (const int token : targets[static_cast<std::size_t>(row)].tokens) {
            out[0] = out[0] - sum.maximum - sum.log_sum;
            if (token / kSoftmaxBlock != likeliest) out[1] = 0.0f;
            out += kScoreWidth;
        }
    });
}

}  // namespace pygpt
