// Bodies of the operations on rows: norms, activations, rotary embedding.
#pragma once

#include "kernels/body/math.h"
#include "kernels/table.h"

namespace pygpt {
namespace {

// f(offset, lanes) for each 16 values of n, the last of them with fewer lanes. Whole vectors say so by a type of their
// own, so that f is compiled for them without a mask.
struct AllLanes {
    constexpr operator int() const { return 16; }
};
template <class F>
inline void for_each_16(std::ptrdiff_t n, F f) {
    std::ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) f(i, AllLanes());
    if (i < n) f(i, static_cast<int>(n - i));
}

// y = f(x), n values.
template <class S, class F>
inline void map(const float* x, float* y, std::ptrdiff_t n, F f) {
    for_each_16(n, [&](std::ptrdiff_t i, auto lanes) { S::store_n(y + i, f(S::load_n(x + i, lanes)), lanes); });
}

// The sum of f(x[i]) over n values; f(0) must be 0, which is what the lanes beyond them hold.
template <class S, class F>
inline float sum_of(const float* x, std::ptrdiff_t n, F f) {
    auto sum = S::zero();
    for_each_16(n, [&](std::ptrdiff_t i, auto lanes) { sum = S::add(sum, f(S::load_n(x + i, lanes))); });
    return S::reduce_add(sum);
}

template <class S>
void layer_norm(const NormArgs& a) {
    const float n = static_cast<float>(a.n);
    for (int row = 0; row < a.rows; ++row) {
        const float* x = a.x + row * a.ldx;
        float* y = a.y + row * a.ldy;
        const float mean = sum_of<S>(x, a.n, [](auto v) { return v; }) / n;
        const auto m = S::set1(mean);
        auto squares = S::zero();
        for_each_16(a.n, [&](std::ptrdiff_t i, auto lanes) {
            const auto d = S::first_n(S::sub(S::load_n(x + i, lanes), m), lanes, S::zero());
            squares = S::fma(d, d, squares);
        });
        const float factor = 1.0f / __builtin_sqrtf(S::reduce_add(squares) / n + a.eps);
        if (a.stats != nullptr) {
            a.stats[2 * row] = mean;
            a.stats[2 * row + 1] = factor;
        }
        const auto scale = S::set1(factor);
        for_each_16(a.n, [&](std::ptrdiff_t i, auto lanes) {
            const auto d = S::mul(S::sub(S::load_n(x + i, lanes), m), scale);
            S::store_n(y + i, S::fma(d, S::load_n(a.weight + i, lanes), S::load_n(a.bias + i, lanes)), lanes);
        });
    }
}

template <class S>
void rms_norm(const NormArgs& a) {
    for (int row = 0; row < a.rows; ++row) {
        const float* x = a.x + row * a.ldx;
        float* y = a.y + row * a.ldy;
        const float squares = sum_of<S>(x, a.n, [](auto v) { return S::mul(v, v); });
        const float factor = 1.0f / __builtin_sqrtf(squares / static_cast<float>(a.n) + a.eps);
        if (a.stats != nullptr) a.stats[row] = factor;
        const auto scale = S::set1(factor);
        for_each_16(a.n, [&](std::ptrdiff_t i, auto lanes) {
            S::store_n(y + i, S::mul(S::mul(S::load_n(x + i, lanes), scale), S::load_n(a.weight + i, lanes)), lanes);
        });
    }
}

template <class S>
void add_row(float* x, const float* y, float scale, std::ptrdiff_t n) {
    const auto factor = S::set1(scale);
    for_each_16(n, [&](std::ptrdiff_t i, auto lanes) {
        S::store_n(x + i, S::fma(S::load_n(y + i, lanes), factor, S::load_n(x + i, lanes)), lanes);
    });
}

template <class S>
void scale_and_cap(float* x, float scale, float cap, std::ptrdiff_t n) {
    const auto factor = S::set1(scale);
    if (cap == 0.0f) return map<S>(x, x, n, [&](auto v) { return S::mul(v, factor); });
    map<S>(x, x, n, [&](auto v) { return capped_v<S>(S::mul(v, factor), cap); });
}

template <class S>
void activate(Activation f, float* x, std::ptrdiff_t n) {
    with_activation(f, [&]<Activation kind>() { map<S>(x, x, n, [](auto v) { return activate_v<S, kind>(v); }); });
}

template <class S>
void activate_gated(Activation f, const float* x, float* y, std::ptrdiff_t n) {
    with_activation(f, [&]<Activation kind>() {
        for_each_16(n, [&](std::ptrdiff_t i, auto lanes) {
            S::store_n(y + i, gate_v<S, kind>(S::load(x + 2 * i), S::load(x + 2 * i + 16)), lanes);
        });
    });
}

// Pairs of values turn by their angle. Written on single floats: a few hundred per token, and without contraction the
// compiler's own vectors give the same bits.
template <class S>
void rope(const RopeArgs& a) {
    const int half = a.dim / 2;
    const int next = a.interleaved ? 1 : half;
    const int step = a.interleaved ? 2 : 1;
    for (int head = 0; head < a.n_heads; ++head) {
        float* x = a.x + static_cast<std::ptrdiff_t>(head) * a.head_dim;
        for (int i = 0; i < half; ++i) {
            const float u = x[i * step], v = x[i * step + next];
            x[i * step] = u * a.cos[i] - v * a.sin[i];
            x[i * step + next] = v * a.cos[i] + u * a.sin[i];
        }
    }
}

template <class S>
void exp_row(const float* x, float* y, std::ptrdiff_t n) {
    map<S>(x, y, n, [](auto v) { return exp_v<S>(v); });
}

template <class S>
void erf_row(const float* x, float* y, std::ptrdiff_t n) {
    map<S>(x, y, n, [](auto v) { return erf_v<S>(v); });
}

template <class S>
void to_f16(const float* x, Half* y, std::ptrdiff_t n) {
    const auto most = S::set1(65504.0f), least = S::set1(-65504.0f);
    for_each_16(n, [&](std::ptrdiff_t i, auto lanes) {
        const auto v = S::max(least, S::min(most, S::load_n(x + i, lanes)));  // this order keeps a NaN
        if (lanes == 16) {
            S::store(y + i, v);
        } else {
            Half h[16];
            S::store(h, v);
            for (int j = 0; j < lanes; ++j) y[i + j] = h[j];
        }
    });
}

}  // namespace
}  // namespace pygpt
