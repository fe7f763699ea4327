// Weights in MXFP4 (base/mxfp4.h) as a row of the table.
//
// A panel of 16 channels is a block of 32 inputs after the other: 16 bytes of scales, one a channel, then for each two
// inputs 2i and 2i + 1 a byte a channel, the first input in its low half.
#pragma once

#include "base/mxfp4.h"
#include "kernels/body/linear_float.h"
#include "kernels/body/whole_panels.h"

namespace pygpt {
namespace {

constexpr int kMxfp4Block = 32;
constexpr int kMxfp4PanelBytes = 16 + kMxfp4Block / 2 * 16;  // of a block

// Panels that a tile of `rows` rows takes at once, beside which registers hold their scales and two vectors of weights.
template <class S, int rows>
constexpr int mxfp4_panels() {
    if constexpr (S::kRegisters >= 32) return rows <= 2 ? 8 : rows <= 6 ? 4 : 3;
    if constexpr (S::kRegisters >= 8) return rows <= 1 ? 2 : 1;
    return 1;
}

template <class S>
constexpr int mxfp4_rows() {
    return S::kRegisters >= 32 ? 8 : 4;
}

// Rows first ... first + rows - 1, panels panel ... panel + panels - 1.
template <class S, int rows, int panels>
inline __attribute__((always_inline)) void mxfp4_tile(const LinearArgs& a, int first, int panel) {
    using V = typename S::F32;
    const std::ptrdiff_t stride = a.k / kMxfp4Block * std::ptrdiff_t{kMxfp4PanelBytes};
    const std::uint8_t* b = static_cast<const std::uint8_t*>(a.panels) + panel * stride;
    const float* x = a.x + first * a.ldx;
    V acc[rows][panels];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) acc[r][p] = S::zero();
    }
    for (int from = 0; from < a.k; from += kMxfp4Block) {
        V scale[panels];
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) scale[p] = S::load_half_scales(b + p * stride);
        b += 16;
        for (int i = 0; i < kMxfp4Block / 2; ++i, b += 16, x += 2) {
            V low[panels], high[panels];
#pragma GCC unroll 16
            for (int p = 0; p < panels; ++p) {
                __builtin_prefetch(b + p * stride + kPrefetchBytes);
                S::load_fp4(b + p * stride, low[p], high[p]);
                low[p] = S::mul(low[p], scale[p]);
                high[p] = S::mul(high[p], scale[p]);
            }
#pragma GCC unroll 16
            for (int r = 0; r < rows; ++r) {
                const V even = S::set1(x[r * a.ldx]);
#pragma GCC unroll 16
                for (int p = 0; p < panels; ++p) acc[r][p] = S::fma(even, low[p], acc[r][p]);
                const V odd = S::set1(x[r * a.ldx + 1]);
#pragma GCC unroll 16
                for (int p = 0; p < panels; ++p) acc[r][p] = S::fma(odd, high[p], acc[r][p]);
            }
        }
    }
    const TileEnds ends = tile_ends(nullptr, 0, a.y + first * a.ldy + (panel - a.panel_begin) * 16, a.ldy,
                                    a.bias == nullptr ? nullptr : a.bias + panel * 16);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) ends.end<S>(r, p, acc[r][p]);
    }
}

// All panels from `panel` on for `rows` rows, as wide as possible first.
template <class S, int rows, int width>
inline void mxfp4_tile_row(const LinearArgs& a, int first, int panel) {
    for (; panel + width <= a.panel_end; panel += width) mxfp4_tile<S, rows, width>(a, first, panel);
    if constexpr (width > 1) {
        if (panel < a.panel_end) mxfp4_tile_row<S, rows, (width + 1) / 2>(a, first, panel);
    }
}

template <class S, int rows>
inline void mxfp4_rows_of(int n_rows, const LinearArgs& a, int first) {
    if (n_rows == rows) {
        mxfp4_tile_row<S, rows, mxfp4_panels<S, rows>()>(a, first, a.panel_begin);
    } else if constexpr (rows > 1) {
        mxfp4_rows_of<S, rows - 1>(n_rows, a, first);
    }
}

template <class S>
struct Mxfp4Weights {
    static constexpr int kStep = kMxfp4Block, kBytes = kMxfp4PanelBytes;

    static int widen(const LinearArgs& a, const FloatPart& part, const void* b, const Ahead&, float* wide) {
        const int blocks = (part.to - part.from) / kMxfp4Block;
        const std::ptrdiff_t stride = a.k / kMxfp4Block * std::ptrdiff_t{kMxfp4PanelBytes};
        for (int p = 0; p < part.panels; ++p) {
            const std::uint8_t* at = static_cast<const std::uint8_t*>(b) + p * stride;
            for (int block = 0; block < blocks; ++block) {
                const auto scale = S::load_half_scales(at);
                at += 16;
                for (int i = 0; i < kMxfp4Block / 2; ++i, at += 16, wide += 32) {
                    typename S::F32 low, high;
                    S::load_fp4(at, low, high);
                    S::store(wide, S::mul(low, scale));
                    S::store(wide + 16, S::mul(high, scale));
                }
            }
        }
        return 0;
    }
};

template <class S>
void linear_whole_mxfp4(const LinearArgs& a) {
    // Two tiles of floats are where widening begins to pay.
    if (a.rows > 2 * tile_rows<S>()) return linear_many_rows<S, Mxfp4Weights<S>>(a);
    constexpr int most = mxfp4_rows<S>();
    const int blocks = ceil_div(a.rows, most);
    for (int i = 0; i < blocks; ++i) {
        const int from = part_begin(i, blocks, a.rows);
        mxfp4_rows_of<S, most>(part_begin(i + 1, blocks, a.rows) - from, a, from);
    }
}

template <class S>
void linear_mxfp4(const LinearArgs& a) {
    for_whole_panels<S, mxfp4_rows<S>()>(a, linear_whole_mxfp4<S>);
}

inline void read_mxfp4_row(const void* panel, const BFloat16*, int k, int lane, float* out) {
    const std::uint8_t* b = static_cast<const std::uint8_t*>(panel) + lane;
    for (int from = 0; from < k; from += kMxfp4Block, b += kMxfp4PanelBytes) {
        const float scale = bits_float(half_scale_bits(*b));
        for (int i = 0; i < kMxfp4Block; ++i) {
            out[from + i] = scale * kFp4Doubled[b[16 + i / 2 * 16] >> (i % 2 * 4) & 15];
        }
    }
}

template <class S>
constexpr LinearFormat mxfp4_format() {
    LinearFormat f{};
    f.name = "MXFP4";
    f.dtype = DType::u8;
    f.step = f.group = kMxfp4Block;
    f.block_bytes = kMxfp4PanelBytes;
    f.read_row = read_mxfp4_row;
    f.multiply = linear_mxfp4<S>;
    f.cut = float_cut;
    return f;
}

}  // namespace
}  // namespace pygpt
