// The body of dropout.
#pragma once

#include "kernels/body/rows.h"
#include "kernels/training/dropout.h"

namespace pygpt {
namespace {

inline std::uint64_t dropout_row(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// The factors, 0 or the scale, of n columns from `column` on; n is a multiple of 16. Written on single numbers, of
// which the compiler makes vectors: integers are exact.
template <class S>
inline void dropout_factors(const DropoutMask& mask, std::uint64_t row, int column, int n, float* to) {
    const std::uint64_t bits = dropout_row(mask.key + row);
    const std::uint32_t high = static_cast<std::uint32_t>(bits >> 32), threshold = mask.threshold;
    const float scale = mask.scale;
    std::uint32_t at = static_cast<std::uint32_t>(column) * 0x9e3779b9u + static_cast<std::uint32_t>(bits);
    for (int i = 0; i < n; i += 16, at += 16 * 0x9e3779b9u) {
        for (int j = 0; j < 16; ++j) {
            std::uint32_t x = at + static_cast<std::uint32_t>(j) * 0x9e3779b9u;
            x = (x ^ (x >> 16)) * 0x7feb352du;
            x = ((x ^ (x >> 15)) + high) * 0x846ca68bu;
            x ^= x >> 16;
            to[i + j] = x < threshold ? 0.0f : scale;
        }
    }
}

template <class S>
void dropout(const DropoutArgs& args) {
    const DropoutArgs a = args;  // that no store can change
    constexpr int kPiece = 256;
    float factors[kPiece];
    for (std::ptrdiff_t row = 0; row < a.rows; ++row) {
        for (std::ptrdiff_t first = 0; first < a.n; first += kPiece) {
            const std::ptrdiff_t at = row * a.n + first, n = a.n - first < kPiece ? a.n - first : kPiece;
            const float* const plus = a.plus;
            if (a.mask.threshold == 0) {
                for_each_16(n, [&](std::ptrdiff_t i, auto lanes) {
                    const auto x = S::load_n(a.from + at + i, lanes);
                    S::store_n(a.to + at + i, plus == nullptr ? x : S::add(x, S::load_n(plus + at + i, lanes)), lanes);
                });
                continue;
            }
            dropout_factors<S>(a.mask, a.first_row + static_cast<std::uint64_t>(row), static_cast<int>(first),
                               static_cast<int>((n + 15) / 16 * 16), factors);
            for_each_16(n, [&](std::ptrdiff_t i, auto lanes) {
                const auto x = S::load_n(a.from + at + i, lanes), factor = S::load(factors + i);
                S::store_n(a.to + at + i,
                           plus == nullptr ? S::mul(x, factor) : S::fma(x, factor, S::load_n(plus + at + i, lanes)),
                           lanes);
            });
        }
    }
}

}  // namespace
}  // namespace pygpt
