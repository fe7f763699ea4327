// Products of bfloat16 factors on AMX tiles, for training.
#include "base/lanes.h"
#include "kernels/training/panel_product.h"
#include "simd/amx.h"
#include "simd/avx512.h"

namespace pygpt {

namespace {

using S = Avx512;

constexpr int kStep = kBf16Step;  // values of k that a tile product takes
constexpr int kTile = 16 * kStep;  // values of a factor's tile

__mmask16 first_lanes(int n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1); }

// Rounds to nearest even: `low` in the lower half.
__m512i rounded(__m512 low, __m512 high) {
    const __m512bh both = _mm512_cvtne2ps_pbh(high, low);
    __m512i bits;
    __builtin_memcpy(&bits, &both, sizeof bits);
    return bits;
}

// 16 rows of 16 pairs of values change places with their columns.
void transpose(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 8; ++i) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
        r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

// The tile of 16 lanes and kStep inputs from (lane, i) on: rows of lanes, or of pairs of inputs.
template <bool pairs>
void pack_tile(const PackPanelsArgs& p, int lane, int i) {
    // From two vectors side by side to pairs.
    const __m512i alternate = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                               6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    __m512i r[16];
    const int lanes = p.n - lane, inputs = p.k - i;
    for (int j = 0; j < 16; ++j) {
        if (p.transposed) {  // row j: one lane, 16 pairs of inputs
            const float* at = p.from + (lane + j) * p.ld + i;
            r[j] = j < lanes ? rounded(_mm512_maskz_loadu_ps(first_lanes(inputs), at),
                                       _mm512_maskz_loadu_ps(first_lanes(inputs - 16), at + 16))
                             : _mm512_setzero_si512();
        } else {  // row j: one pair of inputs, 16 lanes
            const float* at = p.from + (i + 2 * j) * p.ld + lane;
            const __mmask16 mask = first_lanes(lanes);
            const __m512 low = _mm512_maskz_loadu_ps(2 * j < inputs ? mask : __mmask16{0}, at);
            const __m512 high = _mm512_maskz_loadu_ps(2 * j + 1 < inputs ? mask : __mmask16{0}, at + p.ld);
            r[j] = _mm512_permutexvar_epi16(alternate, rounded(low, high));
        }
    }
    if (p.transposed == pairs) transpose(r);
    BFloat16* to = static_cast<BFloat16*>(p.to) + lane / 16 * p.panel_stride + i * 16;
    for (int j = 0; j < 16; ++j) _mm512_storeu_si512(to + j * kStep, r[j]);
}

// Along what lies side by side in memory first.
template <bool pairs>
void pack(const PackPanelsArgs& p) {
    if (p.transposed) {
        for (int lane = 0; lane < p.n; lane += 16) {
            for (int i = 0; i < p.k; i += kStep) pack_tile<pairs>(p, lane, i);
        }
    } else {
        for (int i = 0; i < p.k; i += kStep) {
            for (int lane = 0; lane < p.n; lane += 16) pack_tile<pairs>(p, lane, i);
        }
    }
}

// Tiles 0 ... 3 hold the sums of 16 * row_tiles rows and 16 * panels columns, 4 and 5 rows, 6 and 7 columns.
template <int row_tiles, int panels>
void block(const BFloat16* a, const BFloat16* b, int steps, float* c, std::ptrdiff_t ldc, bool add) {
    const std::ptrdiff_t panel = static_cast<std::ptrdiff_t>(steps) * kTile, bytes = ldc * 4;
    float* const below = c + 16 * ldc;
    if (add) {
        _tile_loadd(0, c, bytes);
        if constexpr (panels == 2) _tile_loadd(1, c + 16, bytes);
        if constexpr (row_tiles == 2) _tile_loadd(2, below, bytes);
        if constexpr (row_tiles == 2 && panels == 2) _tile_loadd(3, below + 16, bytes);
    } else {
        _tile_zero(0);
        if constexpr (panels == 2) _tile_zero(1);
        if constexpr (row_tiles == 2) _tile_zero(2);
        if constexpr (row_tiles == 2 && panels == 2) _tile_zero(3);
    }
    for (int i = 0; i < steps; ++i) {
        _tile_loadd(4, a + i * kTile, 64);
        _tile_loadd(6, b + i * kTile, 64);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (panels == 2) {
            _tile_loadd(7, b + panel + i * kTile, 64);
            _tile_dpbf16ps(1, 4, 7);
        }
        if constexpr (row_tiles == 2) {
            _tile_loadd(5, a + panel + i * kTile, 64);
            _tile_dpbf16ps(2, 5, 6);
        }
        if constexpr (row_tiles == 2 && panels == 2) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, bytes);
    if constexpr (panels == 2) _tile_stored(1, c + 16, bytes);
    if constexpr (row_tiles == 2) _tile_stored(2, below, bytes);
    if constexpr (row_tiles == 2 && panels == 2) _tile_stored(3, below + 16, bytes);
}

void block_of(int row_tiles, int panels, const BFloat16* a, const BFloat16* b, int steps, float* c, std::ptrdiff_t ldc,
              bool add) {
    if (row_tiles == 2) {
        panels == 2 ? block<2, 2>(a, b, steps, c, ldc, add) : block<2, 1>(a, b, steps, c, ldc, add);
    } else {
        panels == 2 ? block<1, 2>(a, b, steps, c, ldc, add) : block<1, 1>(a, b, steps, c, ldc, add);
    }
}

void multiply(const MatmulArgs& m) {
    const int steps = ceil_div(m.k, kStep);
    const std::ptrdiff_t panel = static_cast<std::ptrdiff_t>(steps) * kTile;
    for (int column = 0; column < m.n; column += 32) {
        const int columns = m.n - column < 32 ? m.n - column : 32;
        for (int row = 0; row < m.rows; row += 32) {
            const int rows = m.rows - row < 32 ? m.rows - row : 32;
            const BFloat16* a = static_cast<const BFloat16*>(m.a) + row / 16 * panel;
            const BFloat16* b = static_cast<const BFloat16*>(m.b) + column / 16 * panel;
            float* c = m.c + row * m.ldc + column;
            const int row_tiles = ceil_div(rows, 16), panels = ceil_div(columns, 16);
            if (rows % 16 == 0 && columns % 16 == 0) {
                block_of(row_tiles, panels, a, b, steps, c, m.ldc, m.add);
            } else {  // tiles are whole, so those at the edge go through memory of their own
                alignas(64) float edge[32 * 32] = {};
                for (int r = 0; r < rows && m.add; ++r)
                    __builtin_memcpy(edge + r * 32, c + r * m.ldc, 4u * static_cast<unsigned>(columns));
                block_of(row_tiles, panels, a, b, steps, edge, 32, m.add);
                for (int r = 0; r < rows; ++r)
                    __builtin_memcpy(c + r * m.ldc, edge + r * 32, 4u * static_cast<unsigned>(columns));
            }
            for (int r = 0; r < rows && m.bias != nullptr; ++r) {
                for (int i = 0; i < columns; i += 16) {
                    float* at = c + r * m.ldc + i;
                    S::store_n(at, S::add(S::load_n(at, columns - i), S::load_n(m.bias + column + i, columns - i)),
                               columns - i);
                }
            }
        }
    }
}

void matmul(const MatmulArgs& m) {
    const TileScope tiles;
    multiply(m);
}

}  // namespace

extern const MatmulFormat kAmxBf16Matmul;
constinit const MatmulFormat kAmxBf16Matmul = {pack<false>, pack<true>, matmul, kBf16Step, sizeof(BFloat16)};

}  // namespace pygpt
