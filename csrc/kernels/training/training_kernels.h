// struct TrainingKernels: what only the trainer computes, one constant table for each kind of vectors. The same inputs
// give the same bits in all, but for products in bfloat16.
#pragma once

#include <cstddef>

#include "kernels/activation.h"
#include "kernels/table.h"
#include "kernels/training/dropout.h"
#include "kernels/training/loss_and_step.h"
#include "kernels/training/panel_product.h"
#include "kernels/training/row_gradients.h"
#include "kernels/training/sequence_attention.h"

namespace pygpt {

struct TrainingKernels {
    const char* vectors;  // the name of the instruction set whose vectors they use

    MatmulFormat matmul_f32;
    MatmulFormat matmul_bf16;  // with AVX512_BF16, or AMX beside it, only
    // sums[c] += x[0][c], then += x[1][c], ...: (rows, n), row stride ldx.
    void (*add_rows)(const float* x, std::ptrdiff_t ldx, int rows, int n, float* sums);

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

    // dx = dx scale (1 - (y / cap)^2), y what Kernels::scale_and_cap gave, or dx scale where cap is 0; n values.
    void (*scale_and_cap_backward)(const float* y, float* dx, float scale, float cap, std::ptrdiff_t n);

    void (*dropout)(const DropoutArgs&);

    // Returns -log softmax(x)[target]; then, with `gradient`, x holds that value's gradient times `scale`.
    double (*cross_entropy)(float* x, std::ptrdiff_t n, std::ptrdiff_t target, float scale, bool gradient);

    AttentionKernels attention_f32;
    AttentionKernels attention_bf16;  // where matmul_bf16 is; in vectors, with AMX as well

    void (*adamw)(const AdamwArgs<float>&);
    void (*adamw_bf16)(const AdamwArgs<BFloat16>&);
    // In double precision: 16 sums over every 16th value, then the tree of all lane sums.
    double (*sum_of_squares)(const float* x, std::ptrdiff_t n);
};

// The trainer's table that goes with one of runnable_kernels().
const TrainingKernels& training_kernels(const Kernels& kernels);

}  // namespace pygpt
