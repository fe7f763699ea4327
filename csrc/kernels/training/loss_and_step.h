// Contract: a step of the optimizer.
#pragma once

#include <cstddef>

#include "base/dtype.h"

namespace pygpt {

// One step of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) on n values:
//   g = grads * grad_scale;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  p = p - decay p;
//   p = p - step_size * m / (sqrt(v) * v_scale + eps)
// In float32; m may be kept in BFloat16, rounded to nearest, ties to even, once p has its step.
template <class Mean>
struct AdamwArgs {
    float* params;
    const float* grads;
    Mean* m;
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

}  // namespace pygpt
