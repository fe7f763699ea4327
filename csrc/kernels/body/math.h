// exp, erf, the cap on scores and the activations over the 16-lane vector S::F32. Error bounds are tested in
// tests/cpp/test_math.cpp.
#pragma once

#include "kernels/activation.h"

namespace pygpt {
namespace {

constexpr float kLaneNumbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// x = n ln 2 + r with n rounded to nearest by adding 1.5 * 2^23, so that n stands in the low bits of the sum.
template <class S>
struct ExpParts {
    typename S::F32 shifted;   // n + 1.5 * 2^23
    typename S::F32 fraction;  // e^r - 1, by a minimax polynomial (own fit)
};

template <class S>
inline ExpParts<S> exp_parts(typename S::F32 x) {
    using V = typename S::F32;
    const V magic = S::set1(12582912.0f);
    const V shifted = S::fma(x, S::set1(0x1.715476p+0f), magic);
    const V n = S::sub(shifted, magic);
    V r = S::fma(n, S::set1(-0x1.62e400p-1f), x);
    r = S::fma(n, S::set1(-0x1.7f7d1cp-20f), r);
    V p = S::set1(0x1.6a2430p-10f);
    p = S::fma(p, r, S::set1(0x1.1239e4p-7f));
    p = S::fma(p, r, S::set1(0x1.5558f2p-5f));
    p = S::fma(p, r, S::set1(0x1.555492p-3f));
    p = S::fma(p, r, S::set1(0x1.fffffcp-2f));
    return {shifted, S::fma(S::mul(r, r), p, r)};
}

// e^x within 1.01 ulp; 0 below -86.5, infinity above 88.73. 2^n is made through the exponent field.
template <class S>
inline typename S::F32 exp_v(typename S::F32 x) {
    using V = typename S::F32;
    const auto e = exp_parts<S>(S::min(S::set1(89.0f), x));  // this order keeps a NaN
    const V p = S::add(e.fraction, S::set1(1.0f));
    // 2^(n - 1) * 2, since 2^128 has no exponent field of its own. A product, so that p passes on a NaN of any payload.
    const V power = S::add_exponent(S::set1(1.0f), S::sub(e.shifted, S::set1(1.0f)));
    const V y = S::mul(S::mul(p, power), S::set1(2.0f));
    return S::select_less(x, S::set1(-86.5f), S::zero(), y);
}

// exp_v for x <= 0, without the steps that only a large result needs.
template <class S>
inline typename S::F32 exp_not_positive_v(typename S::F32 x) {
    const auto e = exp_parts<S>(x);
    const auto power = S::add_exponent(S::set1(1.0f), e.shifted);
    return S::select_less(x, S::set1(-86.5f), S::zero(), S::fma(e.fraction, power, power));
}

// erf(x) within 2.8 ulp: x P(x^2) up to 1, beyond it 1 - exp(Q(|x|)) with Q near log(erfc) (own minimax fits).
template <class S>
inline typename S::F32 erf_v(typename S::F32 x) {
    using V = typename S::F32;
    const V t = S::mul(x, x);
    V p = S::set1(-0x1.438568p-17f);
    p = S::fma(p, t, S::set1(0x1.d8273ap-14f));
    p = S::fma(p, t, S::set1(-0x1.bcbebap-11f));
    p = S::fma(p, t, S::set1(0x1.5628f0p-8f));
    p = S::fma(p, t, S::set1(-0x1.b829a8p-6f));
    p = S::fma(p, t, S::set1(0x1.ce2f08p-4f));
    p = S::fma(p, t, S::set1(-0x1.812746p-2f));
    p = S::fma(p, t, S::set1(0x1.20dd76p+0f));
    p = S::mul(p, x);
    const V a = S::abs(x);
    const V b = S::min(S::set1(4.0f), a);  // erf(4) rounds to 1
    V q = S::set1(-0x1.6c06a2p-16f);
    q = S::fma(q, b, S::set1(0x1.ceeafap-12f));
    q = S::fma(q, b, S::set1(-0x1.1398fcp-8f));
    q = S::fma(q, b, S::set1(0x1.9d0bd6p-6f));
    q = S::fma(q, b, S::set1(-0x1.bc18d0p-4f));
    q = S::fma(q, b, S::set1(-0x1.4434f0p-1f));
    q = S::fma(q, b, S::set1(-0x1.212c2cp+0f));
    q = S::fma(q, b, S::set1(0x1.8b3ecep-13f));
    const V far = S::copy_sign(S::sub(S::set1(1.0f), exp_v<S>(q)), x);
    return S::select_less(a, S::set1(1.0f), p, far);
}

// The logarithm of one number in double precision: the compiler's own library differs between machines. x is positive
// and finite, or NaN: m 2^e with m in [sqrt(1/2), sqrt(2)), ln m by the series of 2 artanh((m - 1) / (m + 1)).
inline double log_of(double x) {
    unsigned long long bits;
    __builtin_memcpy(&bits, &x, 8);
    const int e = static_cast<int>(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffull) | 0x3ff0000000000000ull;
    double m;
    __builtin_memcpy(&m, &bits, 8);
    const bool large = m > 1.4142135623730951;
    m = large ? m * 0.5 : m;
    const double t = (m - 1.0) / (m + 1.0), t2 = t * t;
    double series = 0.0;
#pragma GCC unroll 16
    for (int i = 21; i >= 1; i -= 2) series = series * t2 + 1.0 / i;
    return x != x ? x : 2.0 * t * series + (e + (large ? 1 : 0)) * 0.693147180559945309417;
}

// cap tanh(x / cap): with m = e^-2a - 1, tanh a = -m / (2 + m), which loses no digits where a is small.
template <class S>
inline typename S::F32 capped_v(typename S::F32 x, float cap) {
    using V = typename S::F32;
    const V one = S::set1(1.0f), minus_2a = S::mul(S::abs(x), S::set1(-2.0f / cap));
    const auto e = exp_parts<S>(minus_2a);
    const V power = S::add_exponent(one, e.shifted);
    const V near = S::fma(e.fraction, S::sub(S::zero(), power), S::sub(one, power));
    const V minus_m = S::select_less(minus_2a, S::set1(-86.5f), one, near);
    return S::copy_sign(S::mul(S::set1(cap), S::div(minus_m, S::sub(S::set1(2.0f), minus_m))), x);
}

// x / (1 + e^-x).
template <class S>
inline typename S::F32 silu_v(typename S::F32 x) {
    const auto one = S::set1(1.0f);
    return S::div(x, S::add(one, exp_v<S>(S::sub(S::zero(), x))));
}

// x Phi(x) (Hendrycks and Gimpel 2016, arXiv:1606.08415).
template <class S>
inline typename S::F32 gelu_v(typename S::F32 x) {
    const auto e = erf_v<S>(S::mul(x, S::set1(0x1.6a09e6p-1f)));
    return S::mul(S::mul(x, S::set1(0.5f)), S::add(S::set1(1.0f), e));
}

// The same paper's approximation x / 2 (1 + tanh u), u = sqrt(2 / pi) (x + 0.044715 x^3), written as x / (1 + e^-2u),
// which loses no digits where tanh is near -1.
template <class S>
inline typename S::F32 gelu_tanh_v(typename S::F32 x) {
    using V = typename S::F32;
    const V cube = S::mul(S::mul(x, x), S::set1(-2.0f * 0.7978845608f * 0.044715f));
    const V minus_2u = S::mul(x, S::add(cube, S::set1(-2.0f * 0.7978845608f)));
    return S::div(x, S::add(S::set1(1.0f), exp_v<S>(minus_2u)));
}

// x / (1 + e^-1.702x), x at most 7 (gpt-oss, arXiv:2508.10925).
template <class S>
inline typename S::F32 clamped_gate_v(typename S::F32 x) {
    const auto g = S::min(S::set1(7.0f), x);  // this order keeps a NaN
    return S::div(g, S::add(S::set1(1.0f), exp_v<S>(S::mul(g, S::set1(-1.702f)))));
}

template <class S, Activation f>
inline typename S::F32 activate_v(typename S::F32 x) {
    if constexpr (f == Activation::gelu) return gelu_v<S>(x);
    if constexpr (f == Activation::gelu_tanh) return gelu_tanh_v<S>(x);
    if constexpr (f == Activation::silu) return silu_v<S>(x);
    if constexpr (f == Activation::relu) return S::max(S::zero(), x);  // this order keeps a NaN
    if constexpr (f == Activation::swiglu_clamped) return clamped_gate_v<S>(x);
}

// What a gate multiplies: up; with swiglu_clamped 1 + up, up from -7 to 7.
template <class S, Activation f>
inline typename S::F32 gated_v(typename S::F32 up) {
    if constexpr (f == Activation::swiglu_clamped) {
        return S::add(S::max(S::set1(-7.0f), S::min(S::set1(7.0f), up)), S::set1(1.0f));
    }
    return up;
}

template <class S, Activation f>
inline typename S::F32 gate_v(typename S::F32 gate, typename S::F32 up) {
    return S::mul(activate_v<S, f>(gate), gated_v<S, f>(up));
}

// body.operator()<f>(): what is inside is compiled for each activation.
template <class F>
inline void with_activation(Activation f, F body) {
    switch (f) {
        case Activation::gelu:
            return body.template operator()<Activation::gelu>();
        case Activation::gelu_tanh:
            return body.template operator()<Activation::gelu_tanh>();
        case Activation::silu:
            return body.template operator()<Activation::silu>();
        case Activation::relu:
            return body.template operator()<Activation::relu>();
        case Activation::swiglu_clamped:
            return body.template operator()<Activation::swiglu_clamped>();
    }
}

}  // namespace
}  // namespace pygpt
