// Rotation and quantisation to int8 (kernels/int8.h).
#pragma once

#include "kernels/linear_format.h"

namespace pygpt {
namespace {

// The sum is too large for a fraction: so adding and subtracting it rounds to the nearest integer, ties to even.
constexpr float kRoundingMagic = 12582912.0f;  // 1.5 * 2^23

template <class S>
inline typename S::F32 rounded(typename S::F32 x) {
    const auto magic = S::set1(kRoundingMagic);
    return S::sub(S::add(x, magic), magic);
}

inline bool is_finite(float magnitude) { return magnitude < __builtin_inff(); }

// One step of Hadamard's butterflies between the first `count` of v: sums and differences of those `distance` apart.
template <class S, int count, int n>
inline __attribute__((always_inline)) void butterflies(typename S::F32 (&v)[n], int distance) {
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) {
        if ((i & distance) != 0) continue;
        const auto a = v[i], b = v[i + distance];
        v[i] = S::add(a, b);
        v[i + distance] = S::sub(a, b);
    }
}

// x H for the 16 * registers values of x: butterflies between registers, then within them.
template <class S, int registers>
inline __attribute__((always_inline)) void rotate(typename S::F32 (&x)[8]) {
#pragma GCC unroll 4
    for (int distance = 1; distance < registers; distance *= 2) butterflies<S, registers>(x, distance);
#pragma GCC unroll 8
    for (int i = 0; i < registers; ++i) x[i] = S::rotate_lanes(x[i]);
}

// One group of `size` (a multiple of 16 registers) values; reads the first n of x, the rest are zero.
template <class S, int registers>
inline void quantize_group(const float* x, int n, std::int8_t* q, float* scale, std::int32_t* sum) {
    typename S::F32 v[8];
#pragma GCC unroll 8
    for (int i = 0; i < registers; ++i)
        v[i] = n >= registers * 16 ? S::load(x + 16 * i) : S::load_n(x + 16 * i, n - 16 * i);
    rotate<S, registers>(v);
    auto largest = v[0];
#pragma GCC unroll 8
    for (int i = 1; i < registers; ++i) largest = S::larger_magnitude(largest, v[i]);
    const float magnitude = S::reduce_magnitude(largest);
    const bool usable = is_finite(magnitude) && magnitude >= kSmallestMagnitude;
    if (!usable) {
        for (int i = 0; i < registers * 16; ++i) q[i] = 0;
        *scale = is_finite(magnitude) ? 0.0f : __builtin_nanf("");
        *sum = 0;
        return;
    }
    const auto factor = S::set1(127.0f / magnitude);
    auto total = S::zero();
#pragma GCC unroll 8
    for (int i = 0; i < registers; ++i) {
        v[i] = rounded<S>(S::mul(v[i], factor));
        total = S::add(total, v[i]);
        S::store_i8(q + 16 * i, v[i]);
    }
    *scale = magnitude * (1.0f / 127.0f);
    *sum = static_cast<std::int32_t>(S::reduce_add(total));
}

template <class S>
void quantize(const float* x, int k, const QuantizedRows& row) {
    QuantizedRows to = row;
    for (int from = 0; from < k; from += kInt8Group, to = to.at(0, 1)) {
        const int n = k - from;
        if (int8_group_size(n) == kInt8Group) {
            quantize_group<S, 8>(x + from, n, to.q, to.scales, to.sums);
        } else {
            quantize_group<S, 4>(x + from, n, to.q, to.scales, to.sums);
        }
    }
}

// Butterflies between `count` rows of 16 channels, each `apart` rows from the next, in registers.
template <class S, int count>
inline __attribute__((always_inline)) void rotate_some(const float (*from)[16], float (*to)[16], int apart) {
    typename S::F32 v[count];
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) v[i] = S::load(from[i * apart]);
#pragma GCC unroll 4
    for (int distance = 1; distance < count; distance *= 2) butterflies<S, count>(v, distance);
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) S::store(to[i * apart], v[i]);
}

// The butterflies of `size` rows at the distances apart ... apart * count / 2.
template <class S, int count>
inline void rotate_at(const float (*from)[16], float (*to)[16], int apart, int size) {
    for (int i = 0; i < size; i += apart * count) {
        for (int j = i; j < i + apart; ++j) rotate_some<S, count>(from + j, to + j, apart);
    }
}

// The `size` rows of `from`, 64 or 128, times H: through memory as seldom as the registers allow. `to` may be `from`.
template <class S>
inline void rotate_rows(const float (*from)[16], float (*to)[16], int size) {
    if constexpr (S::kRegisters >= 16) {
        rotate_at<S, 16>(from, to, 1, size);
        if (size == 128) return rotate_at<S, 8>(to, to, 16, size);
        rotate_at<S, 4>(to, to, 16, size);
    } else {
        rotate_at<S, 4>(from, to, 1, size);
        rotate_at<S, 4>(to, to, 4, size);
        rotate_at<S, 4>(to, to, 16, size);
        if (size == 128) rotate_at<S, 2>(to, to, 64, size);
    }
}

// The smallest bfloat16 that is not below a positive x.
inline float up_to_bfloat16(float x) { return bits_float((float_bits(x) + 0xffffu) & 0xffff0000u); }

// False where a rotated value is not finite.
template <class S>
bool pack_int8(const PackArgs& a) {
    std::int8_t* const panel = static_cast<std::int8_t*>(a.panel);
    alignas(64) float t[kInt8Group][16];
    bool finite = true;
    int group = 0;
    for (int from = 0; from < a.k; from += kInt8Group, ++group) {
        const int left = a.k - from;
        const int size = int8_group_size(left);
        const auto* rows = reinterpret_cast<const float (*)[16]>(a.weights + from * std::ptrdiff_t{16});
        if (left < size) {
            for (int i = 0; i < size; ++i) S::store(t[i], i < left ? S::load(rows[i]) : S::zero());
            rows = t;
        }
        rotate_rows<S>(rows, t, size);
        auto largest = S::zero();
        for (int i = 0; i < size; ++i) largest = S::larger_magnitude(largest, S::load(t[i]));
        float magnitude[16], factor[16];
        S::store(magnitude, largest);
        for (int c = 0; c < 16; ++c) {
            const float m = bits_float(float_bits(magnitude[c]) & 0x7fffffffu);
            finite = finite && is_finite(m);
            const bool usable = is_finite(m) && m >= kSmallestMagnitude;
            const float scale = usable ? up_to_bfloat16(m / (127.0f * static_cast<float>(size))) : 0.0f;
            a.scales[group * 16 + c] = {static_cast<std::uint16_t>(float_bits(scale) >> 16)};
            factor[c] = usable ? 1.0f / (scale * static_cast<float>(size)) : 0.0f;
        }
        const auto f = S::load(factor);
        for (int i = 0; i < size; i += 4) {
            S::store_i8x4(panel + (from + i) * 16, rounded<S>(S::mul(S::load(t[i]), f)),
                          rounded<S>(S::mul(S::load(t[i + 1]), f)), rounded<S>(S::mul(S::load(t[i + 2]), f)),
                          rounded<S>(S::mul(S::load(t[i + 3]), f)));
        }
    }
    return finite;
}

}  // namespace
}  // namespace pygpt
