// struct Kernels: one constant table of functions for each instruction set. The same inputs give the same bits in all.
//
// A kernel gets pointers, sizes and strides, and only computes. Row strides are in elements; rows must not overlap.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/block_format.h"
#include "kernels/cache_format.h"
#include "kernels/linear_format.h"
#include "kernels/softmax.h"

namespace pygpt {

struct NormArgs {
    const float* x;       // (rows, n), row stride ldx
    std::ptrdiff_t ldx;
    float* y;             // (rows, n), row stride ldy
    std::ptrdiff_t ldy;
    int rows;
    int n;
    const float* weight;  // (n,)
    const float* bias;    // (n,); layer_norm only
    float eps;
    // (rows, 2): mean, 1 / deviation; rms_norm (rows, 1): 1 / root mean square. What a backward pass needs; or null.
    float* stats = nullptr;
};

struct RopeArgs {
    float* x;             // (n_heads, head_dim) of one token, row stride head_dim; rotated in place
    int n_heads;
    int head_dim;
    int dim;              // the first `dim` values of each head turn; even
    bool interleaved;     // pairs (0, 1), (2, 3), ... instead of (0, dim / 2), (1, dim / 2 + 1), ...
    const float* cos;     // (dim / 2,) of the token's position
    const float* sin;
};

struct Kernels {
    const char* name;
    const char* vectors;  // the table whose vectors this one has: "avx512" for "amx"

    // Every format of weights, with its products.
    std::array<LinearFormat, 3> formats;
    // The one whose elements are of this type.
    const LinearFormat& format(DType type) const {
        std::size_t i = 0;
        while (formats.at(i).dtype != type) ++i;
        return formats[i];
    }

    // What weights in MXFP4 blocks are kept in, whichever of the others is chosen.
    LinearFormat mxfp4;

    // Every type of quantised tensors that files hold.
    std::array<BlockFormat, kBlockFormats> blocks;

    // Every format of cached keys and values.
    std::array<CacheFormat, 3> caches;
    // The one whose numbers are of this type.
    const CacheFormat& cache(DType type) const {
        std::size_t i = 0;
        while (caches.at(i).dtype != type) ++i;
        return caches[i];
    }
    void (*attention_merge)(const AttentionMergeArgs&);

    // (x - mean) / sqrt(variance + eps) * weight + bias (Ba et al. 2016, arXiv:1607.06450).
    void (*layer_norm)(const NormArgs&);
    // x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019, arXiv:1910.07467).
    void (*rms_norm)(const NormArgs&);

    // x = fma(y, scale, x), n values.
    void (*add)(float* x, const float* y, float scale, std::ptrdiff_t n);
    // x = x * scale, and then, unless cap is 0, cap tanh(x / cap) (Gemma 2, arXiv:2408.00118); n values.
    void (*scale_and_cap)(float* x, float scale, float cap, std::ptrdiff_t n);

    // x = f(x), n values.
    void (*activate)(Activation f, float* x, std::ptrdiff_t n);
    // y[16 p + i] = f(x[32 p + i]) * x[32 p + 16 + i]: a gate and the values it gates, interleaved in panels of 16.
    // With swiglu_clamped the gated value is first clamped, and 1 added to it.
    // Writes n values; reads 32 for every 16 of them, rounded up. y may be x.
    void (*activate_gated)(Activation f, const float* x, float* y, std::ptrdiff_t n);

    void (*rope)(const RopeArgs&);

    // The maximum and the sum of each block of n >= 1 values, see kSoftmaxBlock; and what count_softmax_blocks(n) of
    // them are together.
    void (*softmax_blocks)(const float* x, float* maxima, float* sums, std::ptrdiff_t n);
    SoftmaxSum (*softmax_sum)(const float* maxima, const float* sums, std::ptrdiff_t blocks);
    // y = x - log(sum(exp(x))) = x - maximum - log_sum, n >= 1 values; y may be x.
    void (*log_softmax)(const float* x, float* y, std::ptrdiff_t n);
    // y = exp(x); x below -86.5 gives 0, where exp(x) is 2^-124.8.
    void (*exp)(const float* x, float* y, std::ptrdiff_t n);
    // erf(x); the activations' building block, in the table for its own test.
    void (*erf)(const float* x, float* y, std::ptrdiff_t n);
    // Round to nearest even; values beyond the largest float16 become it, so that a cache never holds an infinity.
    void (*to_f16)(const float* x, Half* y, std::ptrdiff_t n);
};

}  // namespace pygpt
