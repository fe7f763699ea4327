// The int8 product of many rows without instructions for it: both operands widened once to 16 bits, whose products are
// added in pairs. Two instructions for 16 products, where bytes take four for 32.
//
// Where adding is cheaper than multiplying, half of the multiplications become additions:
//
//     w0 x0 + w1 x1 = (w0 + x1) (w1 + x0) - w0 w1 - x0 x1,
//
// of which the last two terms are summed for a channel and for a row alone (S. Winograd, A New Algorithm for Inner
// Product, IEEE Transactions on Computers C-17, 1968). Four instructions for 32 products, one of them a multiplication;
// exact, since integers are.
#pragma once

#include "base/lanes.h"
#include "kernels/body/whole_panels.h"
#include "kernels/linear_format.h"

namespace pygpt {
namespace {

// Rows that share the panels widened for them, and panels that are widened at a time: several, so that a tile's rows
// come into the first-level cache once for all of them.
constexpr int kPairBlock = 128;
template <class S>
constexpr int kPairWidth = 4 / S::kPairPanels * S::kPairPanels;

// Four inputs are two pairs, (0, 2) and (1, 3): so bytes are widened by shifts alone. A row's first pairs lie together,
// and so do its second ones.
constexpr int kSecondPairs = kInt8Group / 2;

// What the tiles of a block of rows and kPairWidth panels read of one group, and where they add to.
struct PairGroup {
    int fours;
    const std::int16_t* w;  // [panels][fours][2][16][2], panels w_stride elements apart
    std::ptrdiff_t w_stride;
    const std::int16_t* x;  // [rows][2][kSecondPairs / 2][2]
    const std::int32_t* w_own;  // [panels][16] the sums of each channel's own products, negative; for Winograd's
    const std::int32_t* x_own;  // (rows,)
    const BFloat16* scales;
    std::ptrdiff_t scale_stride;
    const float* row_scales;
    const float* from;  // the sums so far; row stride from_ld, 0 where they are all zero
    std::ptrdiff_t from_ld;
    float* to;
    std::ptrdiff_t ld;
};

// The products of four inputs.
template <class S, int rows, int panels>
__attribute__((always_inline)) inline void add_four(typename S::PairSum (&sum)[rows][panels], const std::int16_t* w,
                                                    std::ptrdiff_t stride, const std::int16_t* x) {
    if constexpr (S::kWinograd) {
        static_assert(panels == 1);
        const auto four = S::load_four(w);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r, x += kInt8Group)
            S::add_four(sum[r][0], four, S::broadcast_pair(x), S::broadcast_pair(x + kSecondPairs));
    } else {
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i, w += 32, x += kSecondPairs) {
            typename S::PairSum v[panels];
#pragma GCC unroll 16
            for (int p = 0; p < panels; ++p) v[p] = S::load_pairs(w + p * stride);
#pragma GCC unroll 16
            for (int r = 0; r < rows; ++r) {
                const auto two = S::broadcast_pair(x + r * kInt8Group);
#pragma GCC unroll 16
                for (int p = 0; p < panels; ++p) sum[r][p] = S::add_pairs(sum[r][p], v[p], two);
            }
        }
    }
}

// A function of its own as int8_group is.
template <class S, int rows, int panels>
__attribute__((noinline)) void pair_tile(const PairGroup& g, std::ptrdiff_t row, std::ptrdiff_t panel) {
    const std::int16_t* w = g.w + panel * g.w_stride;
    const std::int16_t* x = g.x + row * kInt8Group;
    const std::ptrdiff_t stride = g.w_stride;
    const std::ptrdiff_t from_ld = g.from_ld, ld = g.ld, scale_stride = g.scale_stride;
    const float* from = g.from + row * from_ld + panel * 16;
    float* to = g.to + row * ld + panel * 16;
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) __builtin_prefetch(to + r * ld + 16 * p, 1);
    }
    typename S::PairSum sum[rows][panels];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) {
            if constexpr (S::kWinograd) {
                sum[r][p] = S::sub(S::load(g.w_own + panel * 16), S::set1(g.x_own[row + r]));
            } else {
                sum[r][p] = S::pair_zero();
            }
        }
    }
    // Eight inputs at a time: after two, GCC 12 moves sums that it has in other registers than at the loop's beginning.
    for (const std::int16_t* const end = w + g.fours * 64; w != end; w += 128, x += 4) {
        add_four<S>(sum, w, stride, x);
        add_four<S>(sum, w + 64, stride, x + 2);
    }
    const float* const row_scales = g.row_scales + row;
    const BFloat16* const scales = g.scales + panel * scale_stride;
    typename S::F32 scale[panels];
#pragma GCC unroll 16
    for (int p = 0; p < panels; ++p) scale[p] = S::load(scales + p * scale_stride);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r, from += from_ld, to += ld) {
        const auto by = S::set1(row_scales[r]);
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p)
            S::store(to + 16 * p, S::fma(S::mul(S::to_f32(sum[r][p]), scale[p]), by, S::load(from + 16 * p)));
    }
}

template <class S, int rows = S::kPairRows, int panels = S::kPairPanels>
inline void pair_tile_of(int n_rows, int n_panels, const PairGroup& g, int row, int panel) {
    if constexpr (rows > 1) {
        if (n_rows < rows) return pair_tile_of<S, rows - 1, panels>(n_rows, n_panels, g, row, panel);
    }
    if constexpr (panels > 1) {
        if (n_panels < panels) return pair_tile_of<S, rows, panels - 1>(n_rows, n_panels, g, row, panel);
    }
    pair_tile<S, rows, panels>(g, row, panel);
}

// The tiles of all rows, of nearly equal height; between them what comes next is fetched into the cache: `lines` lines
// of each of the panels at `next`, `stride` bytes apart.
template <class S>
inline void pair_tiles(int n_panels, int rows, const PairGroup& g, const std::int8_t* next, std::ptrdiff_t stride,
                       int lines) {
    const int tiles = ceil_div(rows, S::kPairRows), low = rows / tiles, higher = rows % tiles;
    const int share = ceil_div(lines, tiles);
    for (int i = 0, row = 0, line = 0; i < tiles; ++i) {
        for (const int end = line + share < lines ? line + share : lines; line < end; ++line) {
            for (int p = 0; p < n_panels; ++p) __builtin_prefetch(next + p * stride + line * 64);
        }
        const int height = i < higher ? low + 1 : low;
        for (int p = 0; p < n_panels; p += S::kPairPanels) {
            const int left = n_panels - p;
            pair_tile_of<S>(height, left < S::kPairPanels ? left : S::kPairPanels, g, row, p);
        }
        row += height;
    }
}

// `size` inputs of a row, and of a panel; and the sums of their own products.
template <class S>
inline std::int32_t widen_row(const std::int8_t* q, int size, std::int16_t* to) {
    for (int i = 0; i < size; i += 32) S::widen(q + i, to + i / 2, to + kSecondPairs + i / 2);
    std::int32_t own = 0;
    if constexpr (S::kWinograd) {
        for (int i = 0; i < size / 2; ++i) own += to[i] * to[kSecondPairs + i];
    }
    return own;
}
template <class S>
inline void widen_panel(const std::int8_t* w, int size, std::int16_t* to, std::int32_t* own) {
    auto sum = S::pair_zero();
    for (int i = 0; i < size; i += 4, w += 64, to += 64) {
        S::widen(w, to, to + 32);
        S::widen(w + 32, to + 16, to + 48);
        if constexpr (S::kWinograd) sum = S::sub_products(sum, S::load_pairs(to), S::load_pairs(to + 32));
    }
    if constexpr (S::kWinograd) S::store(own, sum);
}

// At most kPairBlock rows from `first` on, times whole panels.
template <class S>
inline void pair_block(const LinearArgs& a, int first, int rows) {
    alignas(64) std::int16_t x[kPairBlock * kInt8Group];
    alignas(64) std::int16_t w[kPairWidth<S> * kInt8Group * 16];
    std::int32_t x_own[kPairBlock];
    alignas(64) std::int32_t w_own[kPairWidth<S> * 16];
    alignas(64) static constexpr float kZeros[kPairWidth<S> * 16] = {};
    float* const to = a.y + first * a.ldy;
    const int panel = a.panel_begin, end = a.panel_end, groups = int8_groups(a.k);
    const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(padded_inputs(a.k)) * 16;
    for (int g = 0; g < groups; ++g) {
        const int size = int8_group_size(a.k - g * kInt8Group);
        const QuantizedRows q = a.quantized.at(first, g);
        for (int r = 0; r < rows; ++r) x_own[r] = widen_row<S>(q.q + r * q.ld, size, x + r * kInt8Group);
        for (int p = panel; p < end; p += kPairWidth<S>) {
            const int width = end - p < kPairWidth<S> ? end - p : kPairWidth<S>;
            const std::int8_t* packed = static_cast<const std::int8_t*>(a.panels) + p * stride + g * (kInt8Group * 16);
            for (int i = 0; i < width; ++i)
                widen_panel<S>(packed + i * stride, size, w + i * size * 16, w_own + i * 16);
            float* const sums = to + (p - panel) * 16;
            const PairGroup group{size / 4,
                                  w,
                                  size * std::ptrdiff_t{16},
                                  x,
                                  w_own,
                                  x_own,
                                  a.scales + (static_cast<std::ptrdiff_t>(p) * groups + g) * 16,
                                  groups * std::ptrdiff_t{16},
                                  q.scales,
                                  g == 0 ? kZeros : sums,
                                  g == 0 ? 0 : a.ldy,
                                  sums,
                                  a.ldy};
            const std::int8_t* next =
                p + width < end ? packed + width * stride : packed + (panel - p) * stride + kInt8Group * 16;
            pair_tiles<S>(width, rows, group, next, stride, size / 4);
        }
    }
    for (int r = 0; a.bias != nullptr && r < rows; ++r) {
        for (int p = panel; p < end; ++p) {
            float* const at = to + r * a.ldy + (p - panel) * 16;
            S::store(at, S::add(S::load(at), S::load(a.bias + p * 16)));
        }
    }
}

template <class S>
void linear_whole_pairs(const LinearArgs& a) {
    const int blocks = ceil_div(a.rows, kPairBlock);
    for (int i = 0; i < blocks; ++i) {
        const int first = part_begin(i, blocks, a.rows);
        pair_block<S>(a, first, part_begin(i + 1, blocks, a.rows) - first);
    }
}

template <class S>
void linear_int8_pairs(const LinearArgs& a) {
    for_whole_panels<S, kPairBlock>(a, linear_whole_pairs<S>);
}

}  // namespace
}  // namespace pygpt
