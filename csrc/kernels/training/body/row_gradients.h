// Bodies of the backward passes on rows: norms, activations, caps.
#pragma once

#include "kernels/body/math.h"
#include "kernels/body/rows.h"
#include "kernels/training/row_gradients.h"

namespace pygpt {
namespace {

// With h the normed row before the weight, g = dy * weight and s = stats' scale:
//   dx = s (g - mean(g) - h mean(g h)), without mean(g) where the norm does not centre;  dweight = sum of dy h.
template <class S, bool centred>
void norm_backward(const NormBackwardArgs& a) {
    using V = typename S::F32;
    for_each_16(a.n, [&](std::ptrdiff_t i, auto lanes) {
        S::store_n(a.dweight + i, S::zero(), lanes);
        if constexpr (centred) S::store_n(a.dbias + i, S::zero(), lanes);
    });
    const float n = static_cast<float>(a.n);
    for (int row = 0; row < a.rows; ++row) {
        const float* const dy = a.dy + static_cast<std::ptrdiff_t>(row) * a.n;
        const float* const x = a.x + static_cast<std::ptrdiff_t>(row) * a.n;
        float* const dx = a.dx + static_cast<std::ptrdiff_t>(row) * a.n;
        const V mean = S::set1(centred ? a.stats[2 * row] : 0.0f);
        const V scale = S::set1(centred ? a.stats[2 * row + 1] : a.stats[row]);
        const auto normed = [&](std::ptrdiff_t i, auto lanes) {
            const V v = S::load_n(x + i, lanes);
            return S::mul(centred ? S::sub(v, mean) : v, scale);
        };
        V sum = S::zero(), product = S::zero();
        for_each_16(a.n, [&](std::ptrdiff_t i, auto lanes) {
            const V d = S::load_n(dy + i, lanes), h = normed(i, lanes);
            const V g = S::mul(d, S::load_n(a.weight + i, lanes));
            product = S::fma(g, h, product);
            S::store_n(a.dweight + i, S::fma(d, h, S::load_n(a.dweight + i, lanes)), lanes);
            if constexpr (centred) {
                sum = S::add(sum, g);
                S::store_n(a.dbias + i, S::add(S::load_n(a.dbias + i, lanes), d), lanes);
            }
        });
        const V along = S::set1(-S::reduce_add(product) / n), shift = S::set1(centred ? S::reduce_add(sum) / n : 0.0f);
        for_each_16(a.n, [&](std::ptrdiff_t i, auto lanes) {
            V g = S::mul(S::load_n(dy + i, lanes), S::load_n(a.weight + i, lanes));
            if constexpr (centred) g = S::sub(g, shift);
            S::store_n(dx + i, S::mul(scale, S::fma(normed(i, lanes), along, g)), lanes);
        });
    }
}

// f'(x).
template <class S, Activation f>
inline typename S::F32 slope_v(typename S::F32 x) {
    using V = typename S::F32;
    const V one = S::set1(1.0f), half = S::set1(0.5f);
    if constexpr (f == Activation::relu) return S::select_less(S::zero(), x, one, S::zero());
    if constexpr (f == Activation::gelu) {  // Phi(x) + x phi(x), the normal distribution and its density
        const V below = S::mul(half, S::add(one, erf_v<S>(S::mul(x, S::set1(0x1.6a09e6p-1f)))));
        const V density = S::mul(S::set1(0x1.988454p-2f), exp_v<S>(S::mul(S::mul(x, x), S::set1(-0.5f))));
        return S::fma(x, density, below);
    }
    // All others are x s(w) with the logistic function s, whose slope is s (1 - s): s + x s (1 - s) w'.
    const auto logistic = [&](V minus_w) { return S::div(one, S::add(one, exp_v<S>(minus_w))); };
    if constexpr (f == Activation::silu) {
        const V s = logistic(S::sub(S::zero(), x));
        return S::fma(S::mul(x, s), S::sub(one, s), s);
    }
    if constexpr (f == Activation::swiglu_clamped) {
        const V s = logistic(S::mul(x, S::set1(-1.702f))), most = S::set1(7.0f);
        const V slope = S::fma(S::mul(S::mul(x, S::set1(1.702f)), s), S::sub(one, s), s);
        return S::select_less(most, x, S::zero(), slope);
    }
    if constexpr (f == Activation::gelu_tanh) {
        constexpr float linear = 2.0f * 0.7978845608f, cubic = linear * 0.044715f;
        // Beyond +-12 the slope is 1 or 0 to the last bit, and powers of x could overflow. This order keeps a NaN.
        const V t = S::min(S::set1(12.0f), S::max(S::set1(-12.0f), x)), square = S::mul(t, t);
        const V s = logistic(S::mul(t, S::fma(square, S::set1(-cubic), S::set1(-linear))));
        const V w = S::fma(square, S::set1(3.0f * cubic), S::set1(linear));
        return S::fma(S::mul(S::mul(t, w), s), S::sub(one, s), s);
    }
}

// The slope of cap tanh(x / cap), given that.
template <class S>
inline typename S::F32 cap_slope_v(typename S::F32 capped, float cap) {
    const auto part = S::mul(capped, S::set1(1.0f / cap));
    return S::max(S::zero(), S::fma(S::sub(S::zero(), part), part, S::set1(1.0f)));  // this order keeps a NaN
}

template <class S>
void scale_and_cap_backward(const float* y, float* dx, float scale, float cap, std::ptrdiff_t n) {
    const auto factor = S::set1(scale);
    for_each_16(n, [&](std::ptrdiff_t i, auto lanes) {
        auto d = S::mul(S::load_n(dx + i, lanes), factor);
        if (cap != 0.0f) d = S::mul(d, cap_slope_v<S>(S::load_n(y + i, lanes), cap));
        S::store_n(dx + i, d, lanes);
    });
}

template <class S>
void activation(Activation f, const float* x, float* y, std::ptrdiff_t n) {
    with_activation(f, [&]<Activation kind>() { map<S>(x, y, n, [](auto v) { return activate_v<S, kind>(v); }); });
}

template <class S>
void activation_backward(Activation f, const float* dy, const float* x, float* dx, std::ptrdiff_t n) {
    with_activation(f, [&]<Activation kind>() {
        for_each_16(n, [&](std::ptrdiff_t i, auto lanes) {
            const auto slope = slope_v<S, kind>(S::load_n(x + i, lanes));
            S::store_n(dx + i, S::mul(S::load_n(dy + i, lanes), slope), lanes);
        });
    });
}

template <class S>
void gated_activation(Activation f, const float* gate, const float* up, float* y, std::ptrdiff_t n) {
    with_activation(f, [&]<Activation kind>() {
        for_each_16(n, [&](std::ptrdiff_t i, auto lanes) {
            S::store_n(y + i, gate_v<S, kind>(S::load_n(gate + i, lanes), S::load_n(up + i, lanes)), lanes);
        });
    });
}

template <class S>
void gated_activation_backward(Activation f, const float* dy, const float* gate, const float* up, float* dgate,
                               float* dup, std::ptrdiff_t n) {
    with_activation(f, [&]<Activation kind>() {
        for_each_16(n, [&](std::ptrdiff_t i, auto lanes) {
            const auto d = S::load_n(dy + i, lanes), g = S::load_n(gate + i, lanes), u = S::load_n(up + i, lanes);
            S::store_n(dgate + i, S::mul(d, S::mul(gated_v<S, kind>(u), slope_v<S, kind>(g))), lanes);
            auto opened = activate_v<S, kind>(g);
            if constexpr (kind == Activation::swiglu_clamped) {
                opened = S::select_less(S::set1(7.0f), S::abs(u), S::zero(), opened);
            }
            S::store_n(dup + i, S::mul(d, opened), lanes);
        });
    });
}

}  // namespace
}  // namespace pygpt
