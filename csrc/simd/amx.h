// The configuration of AMX's tiles, for the instruction sets' own translation units.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace pygpt {
namespace {

struct alignas(64) TileConfig {
    std::uint8_t palette = 1;
    std::uint8_t start_row = 0;
    std::uint8_t reserved[14] = {};
    std::uint16_t row_bytes[16] = {};
    std::uint8_t rows[16] = {};
};

// All eight tiles as 16 rows of 64 bytes until the end of the scope: no state stays behind for the system to save.
class TileScope {
public:
    TileScope() {
        TileConfig config;
        for (int i = 0; i < 8; ++i) {
            config.row_bytes[i] = 64;
            config.rows[i] = 16;
        }
        // GCC 12 believes that the instruction reads 8 bytes, and would leave out the stores of the others.
        __asm__ volatile("" : : "r"(&config) : "memory");
        _tile_loadconfig(&config);
    }
    TileScope(const TileScope&) = delete;
    TileScope& operator=(const TileScope&) = delete;
    ~TileScope() { _tile_release(); }
};

// Before tiles are loaded from what was just stored: GCC does not know that the instruction reads memory.
inline void tiles_will_read(const void* memory) { __asm__ volatile("" : : "r"(memory) : "memory"); }

}  // namespace
}  // namespace pygpt
