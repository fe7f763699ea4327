// The factors of attention's products, and how they are packed. T is float, or BFloat16Pair: two values that follow
// each other in a product's sum. A left factor's rows are sums: T's along them. A right factor's rows are terms, so its
// pairs are made of two rows. Where T is float, a matrix is both.
#pragma once

#include <cstddef>
#include <type_traits>

#include "base/dtype.h"
#include "base/lanes.h"

namespace pygpt {
namespace {

template <class T>
constexpr int kValues = std::is_same_v<T, float> ? 1 : 2;

// T's in a row of n values, padded to whole vectors.
template <class T>
constexpr int padded_depth(int n) {
    return round_up(n, 16 * kValues<T>) / kValues<T>;
}

// How far ahead of a walk over the rows of a wide matrix the cache fetches, in rows: they are too far apart for the
// processor to see a pattern.
constexpr int kRowsAhead = 16;

template <class S>
inline typename S::F32 load_or_zero(const float* from, int lanes) {
    return lanes > 0 ? S::load_n(from, lanes) : S::zero();
}

template <class S, class T>
inline void zero_rows(T* to, std::ptrdiff_t n) {
    for (std::ptrdiff_t i = 0; i < n; i += 16) S::store(reinterpret_cast<float*>(to + i), S::zero());
}

// A left factor (rows, n), row stride ld, as (rows, padded_depth<T>(n)), row stride ldt, with zeros in the rest.
template <class S>
inline void pack_left(const float* from, std::ptrdiff_t ld, int rows, int n, float* to, std::ptrdiff_t ldt) {
    const int whole = n / 16 * 16;
    for (int row = 0; row < rows; ++row, from += ld, to += ldt) {
        for (int i = 0; i < whole; i += 16) {
            __builtin_prefetch(from + kRowsAhead * ld + i);
            S::store(to + i, S::load(from + i));
        }
        if (whole < n) S::store(to + whole, S::load_n(from + whole, n - whole));
    }
}
template <class S>
inline void pack_left(const float* from, std::ptrdiff_t ld, int rows, int n, BFloat16Pair* to, std::ptrdiff_t ldt) {
    const int whole = n / 32 * 32;
    for (int row = 0; row < rows; ++row, from += ld, to += ldt) {
        for (int i = 0; i < whole; i += 32) {
            __builtin_prefetch(from + kRowsAhead * ld + i);
            __builtin_prefetch(from + kRowsAhead * ld + i + 16);
            S::store(to + i / 2, S::in_order(S::load(from + i), S::load(from + i + 16)));
        }
        if (whole == n) continue;
        const float* const last = from + whole;
        S::store(to + whole / 2, S::in_order(S::load_n(last, n - whole), load_or_zero<S>(last + 16, n - whole - 16)));
    }
}

// A right factor (rows, n), row stride ld, as (ceil(rows / kValues<T>), n rounded up to 16), row stride ldt.
template <class S>
inline void pack_right(const float* from, std::ptrdiff_t ld, int rows, int n, float* to, std::ptrdiff_t ldt) {
    pack_left<S>(from, ld, rows, n, to, ldt);
}
template <class S>
inline void pack_right(const float* from, std::ptrdiff_t ld, int rows, int n, BFloat16Pair* to, std::ptrdiff_t ldt) {
    for (int row = 0; row < rows; row += 2, from += 2 * ld, to += ldt) {
        for (int i = 0; i < n; i += 16) {
            __builtin_prefetch(from + kRowsAhead * ld + i);
            __builtin_prefetch(from + (kRowsAhead + 1) * ld + i);
            S::store(to + i, S::side_by_side(S::load_n(from + i, n - i),
                                             row + 1 < rows ? S::load_n(from + ld + i, n - i) : S::zero()));
        }
    }
}

// The same as whole matrices, with rows of zeros up to a multiple of 16.
template <class S, class T>
inline void pack_left_padded(const float* from, std::ptrdiff_t ld, int rows, int n, T* to) {
    const std::ptrdiff_t depth = padded_depth<T>(n);
    pack_left<S>(from, ld, rows, n, to, depth);
    zero_rows<S>(to + rows * depth, (round_up(rows, 16) - rows) * depth);
}
template <class S, class T>
inline void pack_right_padded(const float* from, std::ptrdiff_t ld, int rows, int n, T* to) {
    const std::ptrdiff_t width = round_up(n, 16);
    pack_right<S>(from, ld, rows, n, to, width);
    const int written = ceil_div(rows, kValues<T>), all = round_up(rows, 16) / kValues<T>;
    zero_rows<S>(to + written * width, (all - written) * width);
}

// A right factor of which (n, rows), row stride ld, is the transpose, as panels of 16 columns:
// [rows / 16][padded_depth<T>(n)][16]. `memory`: (16, padded_depth<T>(n)).
template <class S, class T>
inline void pack_turned(const float* from, std::ptrdiff_t ld, int rows, int n, T* to, T* memory) {
    const std::ptrdiff_t depth = padded_depth<T>(n);
    for (int row = 0; row < rows; row += 16, to += 16 * depth) {
        pack_left_padded<S>(from + row * ld, ld, rows - row < 16 ? rows - row : 16, n, memory);
        for (std::ptrdiff_t i = 0; i < depth; i += 16) S::transpose(memory + i, depth, to + i * 16);
    }
}

// A matrix (rows, n) as a left factor and as a right one, from `memory` to `end`.
template <class T>
struct BothFactors {
    BothFactors(T* memory, int rows, int n)
        : left(memory),
          right(kValues<T> == 1 ? memory : memory + static_cast<std::ptrdiff_t>(rows) * padded_depth<T>(n)),
          end(right + static_cast<std::ptrdiff_t>(rows) / kValues<T> * round_up(n, 16)) {}

    template <class S>
    void pack_padded(const float* from, std::ptrdiff_t ld, int rows, int n) const {
        pack_left_padded<S>(from, ld, rows, n, left);
        if constexpr (kValues<T> > 1) pack_right_padded<S>(from, ld, rows, n, right);
    }

    T *left, *right, *end;
};

}  // namespace
}  // namespace pygpt
