// The int8 format (kernels/int8.h) as a row of the table.
#pragma once

#include "kernels/body/linear_int8.h"
#include "kernels/body/quantize.h"
#include "kernels/body/turn.h"

namespace pygpt {
namespace {

// v H in place.
inline void rotate_values(float* v, int size) {
    for (int distance = 1; distance < size; distance *= 2) {
        for (int i = 0; i < size; i += 2 * distance) {
            for (int j = i; j < i + distance; ++j) {
                const float a = v[j], b = v[j + distance];
                v[j] = a + b;
                v[j + distance] = a - b;
            }
        }
    }
}

// H is its own inverse but for the size, which the scale contains.
inline void read_int8_row(const void* panel, const BFloat16* scales, int k, int lane, float* out) {
    const std::int8_t* const at = static_cast<const std::int8_t*>(panel) + lane * 4;
    const BFloat16* scale = scales + lane;
    for (int from = 0; from < k; from += kInt8Group, scale += 16) {
        float v[kInt8Group];
        const int size = int8_group_size(k - from);
        const float s = to_float(*scale);
        for (int i = 0; i < size; ++i) v[i] = s * static_cast<float>(at[(from + i) / 4 * std::ptrdiff_t{64} + i % 4]);
        rotate_values(v, size);
        for (int i = 0; i < size && from + i < k; ++i) out[from + i] = v[i];
    }
}

// A task's panels, rows and results share the second-level cache. A task after the other takes the same panels and the
// next rows, in whole tiles of the widest instruction set.
constexpr int kInt8Panels = 2 * kInt8Group / 16, kInt8Rows = 128, kInt8RowTile = 32;

inline LinearCut int8_cut(int rows, int panels, int tasks) {
    const int tiles = ceil_div(rows, kInt8RowTile), panel_parts = ceil_div(panels, kInt8Panels);
    const int wanted = ceil_div(tasks, panel_parts), least = ceil_div(rows, kInt8Rows);
    const int balanced = wanted < tiles ? wanted : tiles;
    return {panel_parts, kInt8Panels, least > balanced ? least : balanced, kInt8RowTile};
}

template <class S>
constexpr LinearFormat int8_format() {
    LinearFormat f{};
    f.name = "int8";
    f.dtype = DType::i8;
    f.piece = 4;
    f.step = kInt8Half;
    f.group = kInt8Group;
    f.scaled = true;
    f.turn = turn<S>;
    f.pack = pack_int8<S>;
    f.read_row = read_int8_row;
    f.prepare = quantize<S>;
    f.multiply = linear_int8<S>;
    f.cut = int8_cut;
    return f;
}

}  // namespace
}  // namespace pygpt
