// The bodies of kernels/training/panel_product.h.
#pragma once

#include "base/lanes.h"
#include "kernels/body/tile.h"
#include "kernels/training/panel_product.h"

namespace pygpt {
namespace {

template <class S>
void pack_panels(const PackPanelsArgs& args) {
    const PackPanelsArgs p = args;  // that no store can change
    float* const packed = static_cast<float*>(p.to);
    // Columns side by side: a few panels at a time, so that what is read of a row is more than a line of the cache.
    constexpr int kPanels = 4;
    const int whole = p.n / 16, count = p.n - whole * 16;
    for (int first = 0; !p.transposed && first < whole; first += kPanels) {
        const int panels = whole - first < kPanels ? whole - first : kPanels;
        for (int i = 0; i < p.k; ++i) {
            const float* from = p.from + i * p.ld + first * 16;
            float* to = packed + first * p.panel_stride + i * 16;
            for (int j = 0; j < panels; ++j) S::store(to + j * p.panel_stride, S::load(from + j * 16));
        }
    }
    for (int j = 0; p.transposed && j < whole; ++j) {
        const float* from = p.from + j * 16 * p.ld;
        float* to = packed + j * p.panel_stride;
        const int blocks = p.k / 16 * 16;
        for (int i = 0; i < blocks; i += 16) S::transpose(from + i, p.ld, to + i * 16);
        for (int i = blocks; i < p.k; ++i) {
            for (int c = 0; c < 16; ++c) to[i * 16 + c] = from[c * p.ld + i];
        }
    }
    if (count == 0) return;
    const std::ptrdiff_t step = p.transposed ? 1 : p.ld, across = p.transposed ? p.ld : 1;
    const float* from = p.from + whole * 16 * across;
    float* to = packed + whole * p.panel_stride;
    for (int i = 0; i < p.k; ++i) {
        for (int c = 0; c < 16; ++c) to[i * 16 + c] = c < count ? from[i * step + c * across] : 0.0f;
    }
}

template <class S>
void multiply_panels(const MatmulArgs& m) {
    constexpr int kWidth = tile_panels<S, 8>(), kColumns = 16 * kWidth;
    const std::ptrdiff_t panel = static_cast<std::ptrdiff_t>(m.k) * 16;
    const float *a = static_cast<const float*>(m.a), *b = static_cast<const float*>(m.b);
    const int panels = ceil_div(m.n, 16), groups = ceil_div(panels, kWidth);
    for (int row = 0; row < m.rows; row += 16) {
        const int rows = m.rows - row < 16 ? m.rows - row : 16;
        // All of the 16 rows pass over a few panels before the next ones.
        for (int g = 0; g < groups; ++g) {
            const int first = part_begin(g, groups, panels), end = part_begin(g + 1, groups, panels),
                      column = first * 16;
            const Product<float, true> product{a + row / 16 * panel, 1, m.k, b + first * panel, panel};
            float* const c = m.c + row * m.ldc + column;
            const int n = m.n - column < 16 * (end - first) ? m.n - column : 16 * (end - first);
            if (n % 16 == 0) {
                block_product<S>(
                    product, rows, end - first,
                    tile_ends(m.add ? c : nullptr, m.ldc, c, m.ldc, m.bias == nullptr ? nullptr : m.bias + column));
                continue;
            }
            // The last columns, in memory that has room for a whole panel.
            float whole[16 * kColumns], bias[kColumns];
            for (int i = 0; i < n; ++i) {
                bias[i] = m.bias == nullptr ? -0.0f : m.bias[column + i];
                for (int r = 0; m.add && r < rows; ++r) whole[r * kColumns + i] = c[r * m.ldc + i];
            }
            block_product<S>(product, rows, end - first,
                             tile_ends(m.add ? whole : nullptr, kColumns, whole, kColumns, bias));
            for (int r = 0; r < rows; ++r) {
                for (int i = 0; i < n; ++i) c[r * m.ldc + i] = whole[r * kColumns + i];
            }
        }
    }
}

// n: 16 for each of the blocks, or, of a single one, less.
template <class S, int blocks>
inline void add_rows_of(const float* x, std::ptrdiff_t ldx, int rows, int n, float* sums) {
    typename S::F32 sum[blocks];
    for (int j = 0; j < blocks; ++j) sum[j] = blocks == 1 ? S::load_n(sums, n) : S::load(sums + 16 * j);
    for (int row = 0; row < rows; ++row, x += ldx) {
        for (int j = 0; j < blocks; ++j) sum[j] = S::add(sum[j], blocks == 1 ? S::load_n(x, n) : S::load(x + 16 * j));
    }
    for (int j = 0; j < blocks; ++j) blocks == 1 ? S::store_n(sums, sum[j], n) : S::store(sums + 16 * j, sum[j]);
}

template <class S>
void add_rows(const float* x, std::ptrdiff_t ldx, int rows, int n, float* sums) {
    constexpr int kBlocks = 4;  // as many additions as hide their latency
    int c = 0;
    for (; c + 16 * kBlocks <= n; c += 16 * kBlocks) add_rows_of<S, kBlocks>(x + c, ldx, rows, 16 * kBlocks, sums + c);
    for (; c < n; c += 16) add_rows_of<S, 1>(x + c, ldx, rows, n - c < 16 ? n - c : 16, sums + c);
}

}  // namespace
}  // namespace pygpt
