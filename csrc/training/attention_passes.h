// Attention of whole sequences and its backward pass, on a team of threads.
#pragma once

#include "kernels/training/training_kernels.h"
#include "training/row_passes.h"

namespace pygpt::training {

// One call's arrays: those of n_batch sequences, one after the other. The sizes and options are those of `sequence`,
// whose arrays are the first sequence's; its kv_head and scratch are ignored.
struct AttentionBatch {
    int n_batch;
    SequenceAttentionArgs sequence;
};

void attention_forward(const AttentionKernels& kernels, Team& team, Scratch& scratch, const AttentionBatch& batch,
                       float* out, float* lse);

struct AttentionGradient {
    const float* out;
    const float* lse;
    const float* dout;
    float* dqkv;
};
void attention_backward(const AttentionKernels& kernels, Team& team, Scratch& scratch, const AttentionBatch& batch,
                        const AttentionGradient& arrays);

}  // namespace pygpt::training
