// Contract: attention of a whole sequence, and its backward pass.
#pragma once

#include <cstddef>

#include "base/lanes.h"
#include "kernels/training/dropout.h"

namespace pygpt {

// What becomes of scores, as in kernels/attention.h: cap * tanh(score / cap), then - slope * distance; and which keys a
// query sees: its own and window - 1 before it.
struct SequenceRule {
    int window = 0;  // 0: all before it
    float cap = 0.0f;  // 0: none
    const float* slopes = nullptr;  // (n_head,) or null

    bool is_plain() const { return window == 0 && cap == 0.0f && slopes == nullptr; }
};

// Causal attention of one sequence, and of the query heads that share one key and value head: `n_head / n_kv_head` of
// them from kv_head * n_head / n_kv_head on. Every score, and every sum over keys or queries, is taken in order, in
// blocks that depend on the sizes alone.
struct SequenceAttentionArgs {
    const float* qkv;  // (n_ctx, (n_head + 2 n_kv_head) head_dim): a row's queries, keys and values
    int n_ctx;
    int n_head, n_kv_head, head_dim;
    int kv_head;
    float scale;
    DropoutMask mask;  // of the probabilities
    std::ptrdiff_t mask_head;  // of the mask, for head 0: its heads are those of all sequences
    float* scratch;  // attention_forward_floats(), or attention_backward_floats()
    SequenceRule rule;
};

// out (n_ctx, n_head head_dim), and lse (n_head, n_ctx): the logarithms of each query's sum of exponentials.
struct AttentionForwardArgs {
    SequenceAttentionArgs in;
    float* out;
    float* lse;
};

// The probabilities are computed again from lse (Dao et al. 2022, arXiv:2205.14135). dqkv is as qkv; these heads' part
// is set.
struct AttentionBackwardArgs {
    SequenceAttentionArgs in;
    const float* out;
    const float* lse;
    const float* dout;
    float* dqkv;
};

// Queries and keys of a block.
constexpr int kTrainBlock = 64;

// Enough for factors of both kinds. Pairs of bfloat16 take half the room, but some matrices are packed in two ways, and
// a head of 16 is padded to 32.
constexpr std::ptrdiff_t attention_forward_floats(int n_ctx, int head_dim) {
    const std::ptrdiff_t rows = round_up(n_ctx, 16), columns = round_up(head_dim, 16);
    return 2 * rows * columns + kTrainBlock * (2 * columns + rows + 2) + rows;
}
constexpr std::ptrdiff_t attention_backward_floats(int n_ctx, int head_dim) {
    const std::ptrdiff_t rows = round_up(n_ctx, 16), columns = round_up(head_dim, 16);
    return 9 * rows * columns + 2 * rows + 3 * kTrainBlock * kTrainBlock + 24 * kTrainBlock;
}

// With one kind of factors. float32: bits are equal everywhere. bfloat16: what is multiplied, queries, keys, values,
// the softmax's weights and the gradients of outputs and scores, is rounded to nearest even as it is packed, and
// products are summed in float32; all else is as in float32. Pairs are added as in panel_product.h, so bits are equal
// for equal machines only.
struct AttentionKernels {
    void (*forward)(const AttentionForwardArgs&);  // null where there are no such products
    void (*backward)(const AttentionBackwardArgs&);
};

}  // namespace pygpt
