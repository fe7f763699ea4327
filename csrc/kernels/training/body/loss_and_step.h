// Bodies of the ends of a training step: the loss with its gradient, and the optimizer.
#pragma once

#include "kernels/body/math.h"
#include "kernels/body/rows.h"
#include "kernels/training/loss_and_step.h"

namespace pygpt {
namespace {

template <class S>
double cross_entropy(float* x, std::ptrdiff_t n, std::ptrdiff_t target, float scale, bool gradient) {
    using V = typename S::F32;
    const V lowest = S::set1(-__builtin_inff());
    V top = lowest;
    for_each_16(n, [&](std::ptrdiff_t i, auto lanes) {
        top = S::max(top, S::first_n(S::load_n(x + i, lanes), lanes, lowest));
    });
    const float maximum = S::reduce_max(top), logit = x[target];
    const V m = S::set1(maximum);
    V sum = S::zero();
    for_each_16(n, [&](std::ptrdiff_t i, auto lanes) {
        const V e = S::first_n(exp_not_positive_v<S>(S::sub(S::load_n(x + i, lanes), m)), lanes, S::zero());
        sum = S::add(sum, e);
        if (gradient) S::store_n(x + i, e, lanes);
    });
    const float total = S::reduce_add(sum);
    if (gradient) {
        const V factor = S::set1(scale / total);
        map<S>(x, x, n, [&](auto v) { return S::mul(v, factor); });
        x[target] -= scale;
    }
    return log_of(static_cast<double>(total)) + (static_cast<double>(maximum) - static_cast<double>(logit));
}

template <class S>
void adamw(const AdamwArgs<float>& a) {
    using V = typename S::F32;
    const V grad_scale = S::set1(a.grad_scale), beta1 = S::set1(a.beta1), beta2 = S::set1(a.beta2),
            one_minus_beta1 = S::set1(a.one_minus_beta1), one_minus_beta2 = S::set1(a.one_minus_beta2),
            minus_decay = S::set1(-a.decay), minus_step = S::set1(-a.step_size), v_scale = S::set1(a.v_scale),
            eps = S::set1(a.eps);
    for_each_16(a.n, [&](std::ptrdiff_t i, auto lanes) {
        const V p = S::load_n(a.params + i, lanes), g = S::mul(S::load_n(a.grads + i, lanes), grad_scale);
        const V m = S::fma(g, one_minus_beta1, S::mul(S::load_n(a.m + i, lanes), beta1));
        const V v = S::fma(S::mul(g, g), one_minus_beta2, S::mul(S::load_n(a.v + i, lanes), beta2));
        const V direction = S::div(m, S::fma(S::sqrt(v), v_scale, eps));
        S::store_n(a.m + i, m, lanes);
        S::store_n(a.v + i, v, lanes);
        S::store_n(a.params + i, S::fma(minus_step, direction, S::fma(minus_decay, p, p)), lanes);
    });
}

// A piece at a time, whose mean is widened to a place in the first-level cache and rounded from there, in loops that
// the compiler makes vectors of.
template <class S>
void adamw_bf16(const AdamwArgs<BFloat16>& a) {
    constexpr std::ptrdiff_t kPiece = 1024;
    alignas(64) float m[kPiece];
    for (std::ptrdiff_t at = 0; at < a.n; at += kPiece) {
        const std::ptrdiff_t n = a.n - at < kPiece ? a.n - at : kPiece;
        BFloat16* const kept = a.m + at;
        for (std::ptrdiff_t i = 0; i < n; ++i) m[i] = to_float(kept[i]);
        adamw<S>({a.params + at, a.grads + at, m, a.v + at, n, a.grad_scale, a.beta1, a.one_minus_beta1, a.beta2,
                  a.one_minus_beta2, a.decay, a.step_size, a.v_scale, a.eps});
        for (std::ptrdiff_t i = 0; i < n; ++i) kept[i] = to_bfloat16(m[i]);
    }
}

// Written on single numbers: a float32's square is exact in double precision, and the compiler's own vectors keep the
// 16 chains as they are.
template <class S>
double sum_of_squares(const float* x, std::ptrdiff_t n) {
    double sums[16] = {};
    std::ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (int j = 0; j < 16; ++j) {
            const double v = static_cast<double>(x[i + j]);
            sums[j] += v * v;
        }
    }
    for (int j = 0; i + j < n; ++j) {
        const double v = static_cast<double>(x[i + j]);
        sums[j] += v * v;
    }
    for (int half = 8; half > 0; half /= 2) {
        for (int j = 0; j < half; ++j) sums[j] += sums[j + half];
    }
    return sums[0];
}

}  // namespace
}  // namespace pygpt
