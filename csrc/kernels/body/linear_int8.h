// The body of the int8 product (kernels/linear_format.h) for vector instructions.
#pragma once

#include "base/lanes.h"
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

template <class S>
constexpr int int8_rows() {
    return S::kInt8Registers >= 32 ? 8 : 4;
}

// What a tile reads of one group: its weights at w, panels `stride` bytes apart, of which the cache fetches what lies
// `ahead`; its rows at q, ld bytes apart; its scales, those of the panels a group of k apart.
struct Int8Group {
    int size;
    const std::int8_t* w;
    std::ptrdiff_t stride, ahead;
    const BFloat16* scales;
    std::ptrdiff_t scale_stride;
    QuantizedRows x;
};

// acc[r][p] += the products of the group. A function of its own, not inlined: only so does GCC 12 keep the sums in
// registers.
template <class S, int rows, int panels>
__attribute__((noinline)) void int8_group(const Int8Group& g, float (*acc)[panels][16]) {
    const std::int8_t* w = g.w;
    const std::int8_t* q = g.x.q;
    const std::ptrdiff_t stride = g.stride, ahead = g.ahead, ld = g.x.ld;
    typename S::I32 sum[rows][panels];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) sum[r][p] = S::dot_start(g.x.sums[r]);
    }
    for (int i = 0; i < g.size; i += 4) {
        typename S::Weights v[panels];
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) {
            const std::int8_t* at = w + p * stride + i * 16;
            __builtin_prefetch(at + ahead);
            v[p] = S::load_weights(at);
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            const auto x = S::broadcast_i8x4(q + r * ld + i);
#pragma GCC unroll 16
            for (int p = 0; p < panels; ++p) sum[r][p] = S::dot(sum[r][p], v[p], x);
        }
    }
#pragma GCC unroll 16
    for (int p = 0; p < panels; ++p) {
        const BFloat16* at = g.scales + p * g.scale_stride;
        __builtin_prefetch(at + panels * g.scale_stride);
        const auto scale = S::load(at);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            const auto x = S::set1(g.x.scales[r]);
            S::store(acc[r][p], S::fma(S::mul(S::to_f32(sum[r][p]), scale), x, S::load(acc[r][p])));
        }
    }
}

// Rows first ... first + rows - 1, panels panel ... panel + panels - 1. Meanwhile the weights of a group ahead are
// fetched into the cache; after the last group come the panels that follow.
template <class S, int rows, int panels>
inline void int8_tile(const LinearArgs& a, int first, int panel) {
    const int groups = int8_groups(a.k);
    const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(padded_inputs(a.k)) * 16;
    const std::int8_t* w = static_cast<const std::int8_t*>(a.panels) + panel * stride;
    const BFloat16* scales = a.scales + static_cast<std::ptrdiff_t>(panel) * groups * 16;
    alignas(64) float acc[rows][panels][16];
    for (auto& row : acc) {
        for (auto& channels : row) S::store(channels, S::zero());
    }
    for (int g = 0; g < groups; ++g) {
        const int from = g * kInt8Group;
        const int size = int8_group_size(a.k - from);
        const std::ptrdiff_t ahead = g + 1 < groups ? size * 16 : panels * stride - from * 16;
        int8_group<S, rows, panels>({size, w + from * 16, stride, ahead, scales + g * 16, groups * std::ptrdiff_t{16},
                                     a.quantized.at(first, g)},
                                    acc);
    }
    for (int p = 0; p < panels; ++p) {
        const int channel = (panel + p) * 16;
        const int lanes = a.n - channel < 16 ? a.n - channel : 16;
        float* y = a.y + first * a.ldy + (channel - a.panel_begin * 16);
        for (int r = 0; r < rows; ++r) {
            auto sum = S::load(acc[r][p]);
            if (a.bias != nullptr) sum = S::add(sum, S::load(a.bias + channel));
            S::store_n(y + r * a.ldy, sum, lanes);
        }
    }
}

// All panels from `panel` on for `rows` rows, as wide as possible first.
template <class S, int rows, int width>
inline void int8_tile_row(const LinearArgs& a, int first, int panel) {
    for (; panel + width <= a.panel_end; panel += width) int8_tile<S, rows, width>(a, first, panel);
    if constexpr (width > 1) {
        if (panel < a.panel_end) int8_tile_row<S, rows, width / 2>(a, first, panel);
    }
}

template <class S, int rows>
inline void int8_rows_of(int n_rows, const LinearArgs& a, int first) {
    if (n_rows == rows) {
        int8_tile_row<S, rows, int8_panels<S, rows>()>(a, first, a.panel_begin);
    } else if constexpr (rows > 1) {
        int8_rows_of<S, rows - 1>(n_rows, a, first);
    }
}

template <class S>
void linear_int8(const LinearArgs& a) {
    constexpr int most = int8_rows<S>();
    const int blocks = ceil_div(a.rows, most);
    for (int i = 0; i < blocks; ++i) {
        const int from = part_begin(i, blocks, a.rows);
        const int to = part_begin(i + 1, blocks, a.rows);
        int8_rows_of<S, most>(to - from, a, from);
    }
}

}  // namespace
}  // namespace pygpt
