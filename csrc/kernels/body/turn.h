// Channels of plain values, turned for packing (kernels/linear_format.h).
#pragma once

#include "kernels/linear_format.h"

namespace pygpt {
namespace {

// A multiple of 16 values at a time is turned in registers, where vectors can be loaded from their type.
template <class S, class From>
inline void turn_values(const From* from, std::ptrdiff_t stride, int k, float* to) {
    const int whole = k / 16 * 16;
    for (int i = 0; i < whole; i += 16) {
        if constexpr (sizeof(From) == sizeof(float)) {
            S::transpose(from + i, stride, to + i * std::ptrdiff_t{16});
        } else {
            alignas(64) float rows[16][16];
            for (int c = 0; c < 16; ++c) S::store(rows[c], S::load(from + c * stride + i));
            S::transpose(rows[0], 16, to + i * std::ptrdiff_t{16});
        }
    }
    for (int i = whole; i < k; ++i) {
        for (int c = 0; c < 16; ++c) to[i * std::ptrdiff_t{16} + c] = to_float(from[c * stride + i]);
    }
}

template <class S>
void turn(const TurnArgs& a) {
    if (a.dtype == DType::f32) return turn_values<S>(static_cast<const float*>(a.rows), a.stride, a.k, a.to);
    if (a.dtype == DType::f16) return turn_values<S>(static_cast<const Half*>(a.rows), a.stride, a.k, a.to);
    turn_values<S>(static_cast<const BFloat16*>(a.rows), a.stride, a.k, a.to);
}

}  // namespace
}  // namespace pygpt
