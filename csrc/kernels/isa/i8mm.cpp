// The int8 product of many rows by ARMv8.6's instruction for products of small matrices, smmla: eight inputs of two
// rows times those of two channels, twice as many as the dot product takes. Few rows are left to that.
#include "kernels/body/linear_int8.h"
#include "simd/dotprod.h"

namespace pygpt {

namespace {

using S = DotProd;

constexpr int kLeastRows = 6;  // from which on it pays to put weights side by side
constexpr int kBlock = 128;    // rows that share those weights, a group of a panel, in the first-level cache
constexpr int kTilePairs = 3;  // pairs of rows of a tile, whose sums take 24 of the 32 registers

// What the tiles of a block of rows read of one group of a panel, and where they add to.
struct PanelGroup {
    const std::int8_t* w;  // [size / 8][16][8]
    int size;
    const BFloat16* scales;
    QuantizedRows x;
    float (*acc)[16];
};

// [size / 4][16][4] to [size / 8][16][8].
void put_side_by_side(const std::int8_t* w, int size, std::int8_t* to) {
    for (int i = 0; i < size; i += 8, w += 128) {
        for (int quarter = 0; quarter < 64; quarter += 16, to += 32) {
            const int32x4_t first = vreinterpretq_s32_s8(vld1q_s8(w + quarter));
            const int32x4_t second = vreinterpretq_s32_s8(vld1q_s8(w + 64 + quarter));
            vst1q_s8(to, vreinterpretq_s8_s32(vzip1q_s32(first, second)));
            vst1q_s8(to + 16, vreinterpretq_s8_s32(vzip2q_s32(first, second)));
        }
    }
}

// As an instruction, since around the intrinsic compilers copy sums.
inline void add_products(int32x4_t& sum, int8x16_t x, int8x16_t w) {
    __asm__("smmla %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(x), "w"(w));
}

// Sums of a row, in the lower or the upper halves of those of its pair.
S::I32 of_row(const int32x4_t (&sum)[8], bool upper) {
    const auto halves = [&](int i) {
        const int64x2_t a = vreinterpretq_s64_s32(sum[i]), b = vreinterpretq_s64_s32(sum[i + 1]);
        return vreinterpretq_s32_s64(upper ? vzip2q_s64(a, b) : vzip1q_s64(a, b));
    };
    return {halves(0), halves(2), halves(4), halves(6)};
}

// 2 * pairs rows from `row` on. A function of its own as int8_group is.
template <int pairs>
__attribute__((noinline)) void pairs_tile(const PanelGroup& g, std::ptrdiff_t row) {
    const std::ptrdiff_t ld = g.x.ld;
    const std::int8_t* x = g.x.q + row * ld;
    int32x4_t sum[pairs][8];
#pragma GCC unroll 8
    for (int p = 0; p < pairs; ++p) {
#pragma GCC unroll 8
        for (int c = 0; c < 8; ++c) sum[p][c] = vdupq_n_s32(0);
    }
    for (const std::int8_t *w = g.w, *const end = w + g.size * 16; w != end; w += 256, x += 16) {
        int8x16_t first[pairs], second[pairs];  // eight inputs each
#pragma GCC unroll 8
        for (int p = 0; p < pairs; ++p) {
            const int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(x + 2 * p * ld));
            const int64x2_t b = vreinterpretq_s64_s8(vld1q_s8(x + (2 * p + 1) * ld));
            first[p] = vreinterpretq_s8_s64(vzip1q_s64(a, b));
            second[p] = vreinterpretq_s8_s64(vzip2q_s64(a, b));
        }
#pragma GCC unroll 16
        for (int c = 0; c < 16; ++c) {
            const int8x16_t v = vld1q_s8(w + 16 * c);
#pragma GCC unroll 8
            for (int p = 0; p < pairs; ++p) add_products(sum[p][c % 8], c < 8 ? first[p] : second[p], v);
        }
    }
    const auto scale = S::load(g.scales);
#pragma GCC unroll 8
    for (int i = 0; i < 2 * pairs; ++i) {
        float* const to = g.acc[row + i];
        const auto scaled = S::mul(S::to_f32(of_row(sum[i / 2], i % 2 != 0)), scale);
        S::store(to, S::fma(scaled, S::set1(g.x.scales[row + i]), S::load(to)));
    }
}

template <int pairs = kTilePairs>
void pairs_tile_of(int n, const PanelGroup& g, int row) {
    if (n == pairs) {
        pairs_tile<pairs>(g, row);
    } else if constexpr (pairs > 1) {
        pairs_tile_of<pairs - 1>(n, g, row);
    }
}

// `rows` rows from `first` on times one panel. Of an odd number of rows the last has a neighbour that may be read.
void panel_block(const LinearArgs& a, int first, int rows, int panel) {
    alignas(64) std::int8_t w[kInt8Group * 16];
    alignas(64) float acc[kBlock][16];
    for (float (&to)[16] : acc) S::store(to, S::zero());
    const int groups = int8_groups(a.k), n_pairs = ceil_div(rows, 2), tiles = ceil_div(n_pairs, kTilePairs);
    const std::int8_t* packed =
        static_cast<const std::int8_t*>(a.panels) + panel * (static_cast<std::ptrdiff_t>(padded_inputs(a.k)) * 16);
    const BFloat16* scales = a.scales + static_cast<std::ptrdiff_t>(panel) * groups * 16;
    for (int g = 0; g < groups; ++g, packed += kInt8Group * 16, scales += 16) {
        const int size = int8_group_size(a.k - g * kInt8Group);
        put_side_by_side(packed, size, w);
        const PanelGroup group{w, size, scales, a.quantized.at(first, g), acc};
        for (int i = 0; i < tiles; ++i) {
            const int from = part_begin(i, tiles, n_pairs);
            pairs_tile_of(part_begin(i + 1, tiles, n_pairs) - from, group, 2 * from);
        }
    }
    const int channel = panel * 16, lanes = a.n - channel < 16 ? a.n - channel : 16;
    const auto bias = a.bias != nullptr ? S::load(a.bias + channel) : S::zero();
    float* y = a.y + first * a.ldy + (channel - a.panel_begin * 16);
    for (int r = 0; r < rows; ++r, y += a.ldy) {
        const auto sum = S::load(acc[r]);
        S::store_n(y, a.bias != nullptr ? S::add(sum, bias) : sum, lanes);
    }
}

}  // namespace

void linear_int8_i8mm(const LinearArgs& args);
void linear_int8_i8mm(const LinearArgs& a) {
    if (a.rows < kLeastRows) return linear_int8<DotProd>(a);
    for (int first = 0; first < a.rows; first += kBlock) {
        const int rows = a.rows - first < kBlock ? a.rows - first : kBlock;
        for (int panel = a.panel_begin; panel < a.panel_end; ++panel) panel_block(a, first, rows, panel);
    }
}

}  // namespace pygpt
