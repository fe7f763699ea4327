// The body of the int8 product (kernels/linear_format.h) for vector instructions.
#pragma once

#include "base/lanes.h"
#include "kernels/body/linear_int8_pairs.h"
#include "kernels/linear_format.h"

namespace pygpt {
namespace {

// Panels that a tile of `rows` rows takes at once: int32 sums in registers, beside weights and one broadcast.
template <class S, int rows>
constexpr int int8_panels() {
    if constexpr (S::kInt8Registers >= 32) return rows <= 2 ? 8 : rows <= 6 ? 4 : 3;
    if constexpr (S::kInt8Registers >= 8) return rows <= 1 ? 4 : rows <= 2 ? 2 : 1;
    return 1;
}

// What a tile reads: its panels' weights, `stride` bytes apart, and their scales; its rows; and where its sums are.
struct Int8Tile {
    const std::int8_t* w;
    std::ptrdiff_t stride;
    const BFloat16* scales;
    std::ptrdiff_t scale_stride;
    QuantizedRows x;
    float* acc;  // [rows][panels][16]
};

// acc += the products of group g, of `size` inputs; meanwhile the weights `ahead` bytes on are fetched into the cache.
// A function of its own, not inlined: only so does GCC 12 keep the sums in registers. The tile is the same for all
// groups: to copy what was just stored, the compiler takes loads wider than those stores, which then wait.
template <class S, int rows, int panels>
__attribute__((noinline)) void int8_group(const Int8Tile& t, std::ptrdiff_t g, int size, std::ptrdiff_t ahead) {
    const std::ptrdiff_t stride = t.stride, ld = t.x.ld;
    const std::int8_t* w = t.w + g * (kInt8Group * 16);
    // Every third row has a pointer: the distances to the next two fit an address.
    const std::int8_t* q[ceil_div(rows, 3)];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r += 3) q[r / 3] = t.x.q + g * kInt8Group + r * ld;
    const std::int32_t* const sums = t.x.sums + g * t.x.ldg;
    typename S::I32 sum[rows][panels];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) sum[r][p] = S::dot_start(sums[r]);
    }
    for (const std::int8_t* const end = w + size * 16; w != end; w += 64) {
        typename S::Weights v[panels];
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) {
            const std::int8_t* at = w + p * stride;
            __builtin_prefetch(at + ahead);
            v[p] = S::load_weights(at);
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            const auto x = S::broadcast_i8x4(q[r / 3] + r % 3 * ld);
#pragma GCC unroll 16
            for (int p = 0; p < panels; ++p) sum[r][p] = S::dot(sum[r][p], v[p], x);
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; r += 3) q[r / 3] += 4;
    }
    const float* const row_scales = t.x.scales + g * t.x.ldg;
    const BFloat16* const scales = t.scales + g * 16;
    const std::ptrdiff_t scale_stride = t.scale_stride;
    float* const acc = t.acc;
#pragma GCC unroll 16
    for (int p = 0; p < panels; ++p) {
        const BFloat16* at = scales + p * scale_stride;
        __builtin_prefetch(at + panels * scale_stride);
        const auto scale = S::load(at);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            float* const to = acc + (r * panels + p) * 16;
            S::store(to, S::fma(S::mul(S::to_f32(sum[r][p]), scale), S::set1(row_scales[r]), S::load(to)));
        }
    }
}

// Rows first ... first + rows - 1, panels panel ... panel + panels - 1. The weights of a group ahead are fetched; after
// the last group come the panels that follow.
template <class S, int rows, int panels>
inline void int8_tile(const LinearArgs& a, int first, int panel) {
    const int groups = int8_groups(a.k);
    const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(padded_inputs(a.k)) * 16;
    alignas(64) float acc[rows * panels * 16];
    for (int i = 0; i < rows * panels; ++i) S::store(acc + 16 * i, S::zero());
    const Int8Tile tile{static_cast<const std::int8_t*>(a.panels) + panel * stride,
                        stride,
                        a.scales + static_cast<std::ptrdiff_t>(panel) * groups * 16,
                        groups * std::ptrdiff_t{16},
                        a.quantized.at(first, 0),
                        acc};
    for (int g = 0; g < groups; ++g) {
        const int from = g * kInt8Group, size = int8_group_size(a.k - from);
        int8_group<S, rows, panels>(tile, g, size, g + 1 < groups ? size * 16 : panels * stride - from * 16);
    }
    for (int p = 0; p < panels; ++p) {
        const int channel = (panel + p) * 16;
        const int lanes = a.n - channel < 16 ? a.n - channel : 16;
        float* y = a.y + first * a.ldy + (channel - a.panel_begin * 16);
        for (int r = 0; r < rows; ++r) {
            auto sum = S::load(acc + (r * panels + p) * 16);
            if (a.bias != nullptr) sum = S::add(sum, S::load(a.bias + channel));
            S::store_n(y + r * a.ldy, sum, lanes);
        }
    }
}

// `rows` rows from `first` on times the panels panel ... end - 1, as wide as possible first.
template <class S, int rows, int width = int8_panels<S, rows>()>
inline void int8_tile_row(const LinearArgs& a, int first, int panel, int end) {
    for (; panel + width <= end; panel += width) int8_tile<S, rows, width>(a, first, panel);
    if constexpr (width > 1) {
        if (panel < end) int8_tile_row<S, rows, width / 2>(a, first, panel, end);
    }
}

template <class S, int rows>
inline void int8_rows_of(int n_rows, const LinearArgs& a, int first, int panel, int end) {
    if (n_rows == rows) {
        int8_tile_row<S, rows>(a, first, panel, end);
    } else if constexpr (rows > 1) {
        int8_rows_of<S, rows - 1>(n_rows, a, first, panel, end);
    }
}

// Panels of a tile of n_rows rows.
template <class S, int rows = S::kInt8Rows>
constexpr int int8_width(int n_rows) {
    if constexpr (rows > 1) {
        if (n_rows < rows) return int8_width<S, rows - 1>(n_rows);
    }
    return int8_panels<S, rows>();
}

// All rows, cut into tiles of nearly equal height, pass over a tile's panels before the next: their weights come from
// memory once.
template <class S>
void linear_int8(const LinearArgs& a) {
    if constexpr (S::kPairRows > 0) {
        if (a.rows >= S::kPairLeast) return linear_int8_pairs<S>(a);
    }
    const int tiles = ceil_div(a.rows, S::kInt8Rows);
    const int width = tiles <= 1 ? a.panel_end - a.panel_begin : int8_width<S>(ceil_div(a.rows, tiles));
    for (int panel = a.panel_begin; panel < a.panel_end; panel += width) {
        const int end = panel + width < a.panel_end ? panel + width : a.panel_end;
        for (int i = 0, row = 0; i < tiles; ++i) {
            const int height = a.rows / tiles + (i < a.rows % tiles ? 1 : 0);
            int8_rows_of<S, S::kInt8Rows>(height, a, row, panel, end);
            row += height;
        }
    }
}

}  // namespace
}  // namespace pygpt
