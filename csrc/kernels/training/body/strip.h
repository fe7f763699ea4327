// The small products that attention's training passes are made of, and the padded copies that they read.
#pragma once

#include <cstddef>

namespace pygpt {
namespace {

// Rows that a product takes at once. Everything that depends on a position, such as which keys are visible, is decided
// for a strip as a whole, so that results do not depend on the tile that an instruction set prefers.
constexpr int kStrip = 8;

// a[r * a_row + i * a_col] and b[i * b_row + p * b_panel ... + 15], for i in [0, k).
struct StripProduct {
    const float* a;
    std::ptrdiff_t a_row, a_col;
    const float* b;
    std::ptrdiff_t b_row, b_panel;
    int k;
};

template <class S, int rows, int panels, class Begin, class End>
inline __attribute__((always_inline)) void strip_tile(const StripProduct& m, int row, int panel, Begin begin, End end) {
    using V = typename S::F32;
    const std::ptrdiff_t a_row = m.a_row, a_col = m.a_col, b_row = m.b_row, b_panel = m.b_panel;
    const float* a = m.a + row * a_row;
    const float* b = m.b + panel * b_panel;
    V acc[rows][panels];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) acc[r][p] = begin(row + r, panel + p);
    }
    for (int i = 0; i < m.k; ++i, a += a_col, b += b_row) {
        V w[panels];
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) w[p] = S::load(b + p * b_panel);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            const V x = S::set1(a[r * a_row]);
#pragma GCC unroll 16
            for (int p = 0; p < panels; ++p) acc[r][p] = S::fma(x, w[p], acc[r][p]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) end(row + r, panel + p, acc[r][p]);
    }
}

// end(row, panel, sum) for the rows of a strip and n_panels panels of 16 columns, where sum is the chain from
// begin(row, panel) over a * b in order of i.
template <class S, class Begin, class End>
inline void strip_product(const StripProduct& m, int n_panels, Begin begin, End end) {
    constexpr int rows = S::kRegisters >= 32 ? 8 : S::kRegisters >= 8 ? 4 : 1, wide = S::kRegisters >= 32 ? 2 : 1;
    int panel = 0;
    for (; panel + wide <= n_panels; panel += wide) {
        for (int row = 0; row < kStrip; row += rows) strip_tile<S, rows, wide>(m, row, panel, begin, end);
    }
    if constexpr (wide > 1) {
        if (panel < n_panels) strip_tile<S, rows, 1>(m, 0, panel, begin, end);
    }
}

// c[r * ldc + 16 p] (if `add`, else 0) + the product, into c.
template <class S>
inline void strip_product_to(const StripProduct& m, int n_panels, float* c, std::ptrdiff_t ldc, bool add) {
    strip_product<S>(
        m, n_panels, [=](int r, int p) { return add ? S::load(c + r * ldc + p * 16) : S::zero(); },
        [=](int r, int p, typename S::F32 sum) { S::store(c + r * ldc + p * 16, sum); });
}

// How far ahead of a walk over the rows of a wide matrix the cache fetches, in rows: they are too far apart for the
// processor to see a pattern.
constexpr int kRowsAhead = 16;

// (rows, n) with row stride ld as (rows rounded up to 16, n rounded up to 16), with zeros in the rest.
template <class S>
inline void copy_padded(const float* from, std::ptrdiff_t ld, int rows, int n, float* to) {
    const int padded = (n + 15) / 16 * 16, all = (rows + 15) / 16 * 16, whole = n / 16 * 16;
    for (int row = 0; row < rows; ++row, from += ld, to += padded) {
        for (int i = 0; i < whole; i += 16) {
            __builtin_prefetch(from + kRowsAhead * ld + i);
            S::store(to + i, S::load(from + i));
        }
        if (whole < n) S::store(to + whole, S::load_n(from + whole, n - whole));
    }
    for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(all - rows) * padded; i += 16) {
        S::store(to + i, S::zero());
    }
}

// Such an array (rows, n), both multiples of 16, as panels of 16 rows: [rows / 16][n][16].
template <class S>
inline void turn_padded(const float* from, int rows, int n, float* to) {
    for (int row = 0; row < rows; row += 16) {
        for (int i = 0; i < n; i += 16) S::transpose(from + row * n + i, n, to + row * n + i * 16);
    }
}

// 16 of a dropout mask as 0 or `scale`; those from `lanes` on as 0.
template <class S>
inline typename S::F32 load_keep(const std::uint8_t* keep, int lanes, float scale) {
    float values[16];
    for (int i = 0; i < 16; ++i) values[i] = i < lanes ? static_cast<float>(keep[i]) : 0.0f;
    return S::mul(S::load(values), S::set1(scale));
}

}  // namespace
}  // namespace pygpt
