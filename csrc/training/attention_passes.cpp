#include "training/attention_passes.h"

#include "threads/parallel.h"

namespace pygpt::training {

namespace {

// body(args, row, head_row) for each sequence and each of its key and value heads: its first row among all rows,
// and its first query among the queries of all heads.
template <class F>
void each_head(Team& team, Scratch& scratch, const AttentionBatch& batch, std::ptrdiff_t floats, F body) {
    const SequenceAttentionArgs& all = batch.sequence;
    float* const memory = scratch.take<float>(static_cast<std::size_t>(floats * team.size()));
    const std::ptrdiff_t width = static_cast<std::ptrdiff_t>(all.n_head + 2 * all.n_kv_head) * all.head_dim;
    team.parallel_for(batch.n_batch * all.n_kv_head, [&](int task, int thread) {
        const std::ptrdiff_t b = task / all.n_kv_head, row = b * all.n_ctx, head_row = row * all.n_head;
        SequenceAttentionArgs args = all;
        args.qkv += row * width;
        args.kv_head = task % all.n_kv_head;
        args.mask_head = b * all.n_head;
        args.scratch = memory + thread * floats;
        body(args, row, head_row);
    });
}

}  // namespace

void attention_forward(const AttentionKernels& kernels, Team& team, Scratch& scratch, const AttentionBatch& batch,
                       float* out, float* lse) {
    const SequenceAttentionArgs& s = batch.sequence;
    const std::ptrdiff_t width = static_cast<std::ptrdiff_t>(s.n_head) * s.head_dim;
    each_head(team, scratch, batch, attention_forward_floats(s.n_ctx, s.head_dim),
              [&](const SequenceAttentionArgs& args, std::ptrdiff_t row, std::ptrdiff_t head_row) {
                  kernels.forward({args, out + row * width, lse + head_row});
              });
}

void attention_backward(const AttentionKernels& kernels, Team& team, Scratch& scratch, const AttentionBatch& batch,
                        const AttentionGradient& a) {
    const SequenceAttentionArgs& s = batch.sequence;
    const std::ptrdiff_t width = static_cast<std::ptrdiff_t>(s.n_head) * s.head_dim;
    const std::ptrdiff_t all = width + 2 * static_cast<std::ptrdiff_t>(s.n_kv_head) * s.head_dim;
    each_head(
        team, scratch, batch, attention_backward_floats(s.n_ctx, s.head_dim),
        [&](const SequenceAttentionArgs& args, std::ptrdiff_t row, std::ptrdiff_t head_row) {
            kernels.backward({args, a.out + row * width, a.lse + head_row, a.dout + row * width, a.dqkv + row * all});
        });
}

}  // namespace pygpt::training
