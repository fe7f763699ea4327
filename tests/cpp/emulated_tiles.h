// AMX's tile instructions as functions, so that the kernels of kernels/isa/amx*.cpp run where there are none: what they
// compute are integers, the same everywhere.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace pygpt::test {

struct EmulatedTile {
    std::int8_t bytes[16][64];
};
inline thread_local EmulatedTile emulated_tiles[8];

inline void emulated_load(int tile, const void* from, std::ptrdiff_t stride) {
    for (int row = 0; row < 16; ++row)
        std::memcpy(emulated_tiles[tile].bytes[row], static_cast<const char*>(from) + row * stride, 64);
}

inline void emulated_store(int tile, void* to, std::ptrdiff_t stride) {
    for (int row = 0; row < 16; ++row)
        std::memcpy(static_cast<char*>(to) + row * stride, emulated_tiles[tile].bytes[row], 64);
}

// sums (16, 16) += a (16, 64) of numbers of type A times b, whose 64 rows of 16 lie four by four side by side.
template <class A>
inline void emulated_product(int sums, int a, int b) {
    for (int row = 0; row < 16; ++row) {
        std::int32_t sum[16];
        std::memcpy(sum, emulated_tiles[sums].bytes[row], 64);
        for (int i = 0; i < 64; ++i) {
            for (int column = 0; column < 16; ++column) {
                sum[column] += static_cast<A>(emulated_tiles[a].bytes[row][i]) *
                               emulated_tiles[b].bytes[i / 4][column * 4 + i % 4];
            }
        }
        std::memcpy(emulated_tiles[sums].bytes[row], sum, 64);
    }
}

}  // namespace pygpt::test

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#undef _tile_dpbusd
#define _tile_loadconfig(config) static_cast<void>(config)
#define _tile_release() static_cast<void>(0)
#define _tile_zero(tile) (pygpt::test::emulated_tiles[tile] = {})
#define _tile_loadd(tile, from, stride) pygpt::test::emulated_load(tile, from, stride)
#define _tile_stored(tile, to, stride) pygpt::test::emulated_store(tile, to, stride)
#define _tile_dpbssd(sums, a, b) pygpt::test::emulated_product<std::int8_t>(sums, a, b)
#define _tile_dpbusd(sums, a, b) pygpt::test::emulated_product<std::uint8_t>(sums, a, b)
