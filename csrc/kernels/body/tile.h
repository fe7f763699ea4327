// The register tile that every product is made of: a few rows times a few packed panels of 16 columns.
#pragma once

#include <cstddef>

#include "base/dtype.h"
#include "base/lanes.h"

namespace pygpt {
namespace {

// Panels that a tile of `rows` rows takes at once: as many accumulators as registers allow without spilling, beside one
// broadcast value and the weights in flight; with one row, enough chains and memory streams to hide their latency.
template <class S, int rows>
constexpr int tile_panels() {
    if constexpr (S::kRegisters >= 32) return rows <= 2 ? 8 : rows <= 6 ? 4 : 3;
    if constexpr (S::kRegisters >= 8) return rows <= 1 ? 4 : rows <= 3 ? 2 : 1;
    return 1;
}

// Rows that a tile takes at most; more are cut into tiles of nearly equal height.
template <class S>
constexpr int tile_rows() {
    return S::kRegisters >= 32 ? 9 : 6;
}

// How far ahead of its loads each panel of a product is fetched into the cache, in bytes.
constexpr int kPrefetchBytes = 2048;

// The operands of a product: a (rows, k) with row stride lda, and b: panels [k][16] of T, one every panel_stride
// elements. Interleaved rows are a panel too: up to 16 of them as [k][16], with lda 1; they and b lie in caches that
// need no help.
template <class T, bool interleaved = false>
struct Product {
    const float* a;
    std::ptrdiff_t lda;
    int k;
    const T* b;
    std::ptrdiff_t panel_stride;

    static constexpr bool kPrefetches = !interleaved, kFetchesNext = false, kWidens = false;
    // Rows that a tile has at least, of at most `most`.
    static constexpr int least(int) { return 1; }
    std::ptrdiff_t a_row() const { return interleaved ? 1 : lda; }
    std::ptrdiff_t a_step() const { return interleaved ? 16 : 1; }
    std::ptrdiff_t b_step() const { return 16; }
    // What the tile of this number has of it, whose first row is `row`.
    Product of_tile(int, int row) const { return {a + row * a_row(), lda, k, b, panel_stride}; }
};

// What the cache should fetch while a product reads b: at every input `step` bytes further, a stream for each panel.
struct Ahead {
    const char* at;
    std::ptrdiff_t step, panel_stride;  // in bytes
};

// A product of more rows than a tile has, cut into tiles of nearly equal height, which has something else fetched than
// its own b; each tile goes on where the one before it ended.
template <class T>
struct PacedProduct : Product<T> {
    Ahead ahead;

    static constexpr bool kFetchesNext = true;
    static constexpr int least(int most) { return (most + 1) / 2; }
    PacedProduct of_tile(int tile, int row) const {
        return {{this->a + row * this->lda, this->lda, this->k, this->b, this->panel_stride},
                {ahead.at + tile * this->k * ahead.step, ahead.step, ahead.panel_stride}};
    }
};

// And that leaves what it read of b at `wide`: panels [k][16] of floats, one after the other. For a single tile.
template <class T>
struct WideningProduct : PacedProduct<T> {
    float* wide;

    static constexpr bool kWidens = true;
};

// Where the chains of whole panels begin and end: at from[row][panel] and, with the bias added, at to[row][panel], from
// one row or panel to the next so many floats on; 0 where all have the same 16.
struct TileEnds {
    const float* from;
    std::ptrdiff_t from_row, from_panel;
    float* to;
    std::ptrdiff_t to_row;
    const float* bias;
    std::ptrdiff_t bias_panel;

    // From this row on.
    TileEnds at_row(int row) const {
        return {from + row * from_row, from_row, from_panel, to + row * to_row, to_row, bias, bias_panel};
    }
    template <class S>
    typename S::F32 begin(int r, int p) const {
        return S::load(from + r * from_row + p * from_panel);
    }
    template <class S>
    void end(int r, int p, typename S::F32 sum) const {
        S::store(to + r * to_row + p * 16, S::add(sum, S::load(bias + p * bias_panel)));
    }
};

// From null, they begin with zero; without a bias -0 is added, which changes no bit.
inline TileEnds tile_ends(const float* from, std::ptrdiff_t from_row, float* to, std::ptrdiff_t to_row,
                          const float* bias) {
    alignas(64) static constexpr float kZeros[16] = {};
    alignas(64) static constexpr float kNoBias[16] = {-0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f,
                                                      -0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f};
    const bool begins = from == nullptr, biased = bias != nullptr;
    return {begins ? kZeros : from,  begins ? 0 : from_row, begins ? 0 : 16, to, to_row,
            biased ? bias : kNoBias, biased ? 16 : 0};
}

// end(row, panel, sum), where sum is the chain from begin(row, panel) over a[row][i] * b[panel][i] in order of i, for
// all rows and the panels first ... first + panels - 1. P is a Product, or says in the same words where its operands
// lie: from one row of a to the next, and from one i to the next in a and in b.
template <class S, int rows, int panels, class P, class Begin, class End>
inline __attribute__((always_inline)) void tile(const P& m, int first, Begin begin, End end) {
    using V = typename S::F32;
    const auto* a = m.a;
    const std::ptrdiff_t a_row = m.a_row(), a_step = m.a_step(), b_step = m.b_step(), panel_stride = m.panel_stride;
    const auto* b = m.b + first * panel_stride;
    V acc[rows][panels];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) acc[r][p] = begin(r, first + p);
    }
    const char* ahead = nullptr;
    std::ptrdiff_t ahead_step = 0, ahead_stride = 0, wide_stride = 0;
    float* wide = nullptr;
    if constexpr (P::kFetchesNext) {
        ahead_step = m.ahead.step;
        ahead_stride = m.ahead.panel_stride;
        ahead = m.ahead.at + first * ahead_stride;
    }
    if constexpr (P::kWidens) {
        wide_stride = static_cast<std::ptrdiff_t>(m.k) * 16;
        wide = m.wide + first * wide_stride;
    }
    for (int i = 0; i < m.k; ++i, a += a_step, b += b_step) {
        decltype(S::load(b)) w[panels];
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) {
            const auto* at = b + p * panel_stride;
            if constexpr (P::kFetchesNext) {
                __builtin_prefetch(ahead + p * ahead_stride);
            } else if constexpr (P::kPrefetches) {
                __builtin_prefetch(reinterpret_cast<const char*>(at) + kPrefetchBytes);
            }
            w[p] = S::load(at);
            if constexpr (P::kWidens) S::store(wide + p * wide_stride, w[p]);
        }
        if constexpr (P::kFetchesNext) ahead += ahead_step;
        if constexpr (P::kWidens) wide += 16;
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            const auto x = S::set1(a[r * a_row]);
#pragma GCC unroll 16
            for (int p = 0; p < panels; ++p) acc[r][p] = S::fma(x, w[p], acc[r][p]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) end(r, first + p, acc[r][p]);
    }
}

// The panels first ... n_panels - 1 for `rows` rows, as wide as possible first.
template <class S, int rows, int width, class P>
inline void tile_row(const P& m, int first, int n_panels, const TileEnds& at) {
    const TileEnds ends = at;  // that no store can change
    for (; first + width <= n_panels; first += width) {
        tile<S, rows, width>(
            m, first, [=](int r, int p) { return ends.begin<S>(r, p); },
            [=](int r, int p, typename S::F32 sum) { ends.end<S>(r, p, sum); });
    }
    if constexpr (width > 1) {
        if (first < n_panels) tile_row<S, rows, (width + 1) / 2>(m, first, n_panels, at);
    }
}

// tile_row for a number of rows known only at run time, at most `rows`.
template <class S, int rows, class P>
inline void tile_row_of(int n_rows, const P& m, int n_panels, const TileEnds& ends) {
    if (n_rows == rows) {
        tile_row<S, rows, tile_panels<S, rows>()>(m, 0, n_panels, ends);
    } else if constexpr (rows > P::least(tile_rows<S>())) {
        tile_row_of<S, rows - 1>(n_rows, m, n_panels, ends);
    }
}

// The whole product: any number of rows, cut into tiles of nearly equal height.
template <class S, class P>
inline void block_product(const P& m, int n_rows, int n_panels, const TileEnds& ends) {
    constexpr int most = tile_rows<S>();
    const int blocks = ceil_div(n_rows, most);
    for (int i = 0; i < blocks; ++i) {
        const int from = part_begin(i, blocks, n_rows);
        const int to = part_begin(i + 1, blocks, n_rows);
        // Not a changed copy of m: to copy what was just stored, the compiler takes loads wider than those stores,
        // which wait until every store before them has left for the cache.
        const P part = m.of_tile(i, from);
        tile_row_of<S, most>(to - from, part, n_panels, ends.at_row(from));
    }
}

}  // namespace
}  // namespace pygpt
