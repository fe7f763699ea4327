// Contracts of the kernels that only training uses: backward passes, the loss and the optimizer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace pygpt {

enum class Activation : std::uint8_t { gelu, gelu_tanh, silu, relu };
constexpr std::array<const char*, 4> enum_names(Activation) { return {"gelu", "gelu_tanh", "silu", "relu"}; }

// The backward pass of a norm over `rows` rows of n values, C-contiguous.
struct NormBackwardArgs {
    const float* dy;      // (rows, n)
    const float* x;       // (rows, n)
    const float* weight;  // (n,)
    const float* stats;   // (rows, 2): mean, 1 / deviation; rms_norm: (rows, 1): 1 / root mean square
    float* dx;            // (rows, n)
    float* dweight;       // (n,): set to these rows' part
    float* dbias;         // the same; layer_norm only
    int rows;
    int n;
};

// One step of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) on n values:
//   g = grads * grad_scale;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  p = p - decay p;
//   p = p - step_size * m / (sqrt(v) * v_scale + eps)
struct AdamwArgs {
    float* params;
    const float* grads;
    float* m;
    float* v;
    std::ptrdiff_t n;
    float grad_scale;
    float beta1, one_minus_beta1;
    float beta2, one_minus_beta2;
    float decay;      // learning rate * weight decay
    float step_size;  // learning rate / (1 - beta1^step)
    float v_scale;    // 1 / sqrt(1 - beta2^step)
    float eps;
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
    const std::uint8_t* keep;  // (n_head, n_ctx, n_ctx): the probabilities are multiplied by keep * keep_scale; or null
    float keep_scale;
    float* scratch;  // attention_forward_floats(), or attention_backward_floats()
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

constexpr std::ptrdiff_t round_up_16(std::ptrdiff_t n) { return (n + 15) / 16 * 16; }

constexpr std::ptrdiff_t attention_forward_floats(int n_ctx, int head_dim) {
    const std::ptrdiff_t rows = round_up_16(n_ctx), columns = round_up_16(head_dim);
    return 3 * rows * columns + kTrainBlock * (2 * columns + rows + 2);
}
constexpr std::ptrdiff_t attention_backward_floats(int n_ctx, int head_dim) {
    const std::ptrdiff_t rows = round_up_16(n_ctx), columns = round_up_16(head_dim);
    return 8 * rows * columns + 2 * rows + 2 * kTrainBlock * kTrainBlock;
}

struct TrainingKernels {
    // Of the norms in kernels/table.h.
    void (*layer_norm_backward)(const NormBackwardArgs&);
    void (*rms_norm_backward)(const NormBackwardArgs&);

    // y = f(x) and dx = dy f'(x), n values.
    void (*activation)(Activation f, const float* x, float* y, std::ptrdiff_t n);
    void (*activation_backward)(Activation f, const float* dy, const float* x, float* dx, std::ptrdiff_t n);
    // y = f(gate) * up; dgate = dy up f'(gate), dup = dy f(gate); n values.
    void (*gated_activation)(Activation f, const float* gate, const float* up, float* y, std::ptrdiff_t n);
    void (*gated_activation_backward)(Activation f, const float* dy, const float* gate, const float* up, float* dgate,
                                      float* dup, std::ptrdiff_t n);

    // Returns -log softmax(x)[target]; then, with `gradient`, x holds that value's gradient times `scale`.
    double (*cross_entropy)(float* x, std::ptrdiff_t n, std::ptrdiff_t target, float scale, bool gradient);

    void (*attention_forward)(const AttentionForwardArgs&);
    void (*attention_backward)(const AttentionBackwardArgs&);

    void (*adamw)(const AdamwArgs&);
    // In double precision: 16 sums over every 16th value, then the tree of all lane sums.
    double (*sum_of_squares)(const float* x, std::ptrdiff_t n);
};

}  // namespace pygpt
