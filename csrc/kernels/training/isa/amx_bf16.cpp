// Products of bfloat16 factors on AMX tiles, for training.
#include "kernels/training/isa/pack_bf16.h"
#include "simd/amx.h"

namespace pygpt {

namespace {

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
constinit const MatmulFormat kAmxBf16Matmul = {pack_bf16<false>, pack_bf16<true>, matmul, kBf16Step, sizeof(BFloat16)};

}  // namespace pygpt
