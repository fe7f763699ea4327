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

using Int8Group = void (*)(const Int8Tile&, std::ptrdiff_t g, int size, std::ptrdiff_t ahead);

// int8_group for a tile of so many rows and panels.
template <class S, int rows = S::kInt8Rows, int panels = int8_panels<S, rows>()>
inline Int8Group int8_group_of(int n_rows, int n_panels) {
    if constexpr (rows > 1) {
        if (n_rows < rows) return int8_group_of<S, rows - 1>(n_rows, n_panels);
    }
    if constexpr (panels > 1) {
        if (n_panels < panels) return int8_group_of<S, rows, panels == 8 ? 4 : panels - 1>(n_rows, n_panels);
    }
    return int8_group<S, rows, panels>;
}

// Panels of the widest tile of n_rows rows.
template <class S, int rows = S::kInt8Rows>
constexpr int int8_width(int n_rows) {
    if constexpr (rows > 1) {
        if (n_rows < rows) return int8_width<S, rows - 1>(n_rows);
    }
    return int8_panels<S, rows>();
}

// Sums of the largest tile.
template <class S, int rows = S::kInt8Rows>
constexpr int int8_sums() {
    constexpr int own = rows * int8_panels<S, rows>();
    if constexpr (rows > 1) return own > int8_sums<S, rows - 1>() ? own : int8_sums<S, rows - 1>();
    return own;
}

// Tiles one below the other that take a group of weights by turns: so these come from memory while all of them
// multiply.
constexpr int kInt8Tiles = 4;

template <class S>
class Int8Column {
public:
    // `tiles` tiles of nearly equal height: rows first ... first + rows - 1, panels panel ... panel + panels - 1.
    Int8Column(const LinearArgs& a, int first, int rows, int tiles, int panel, int panels)
        : a_(a), first_(first), rows_(rows), tiles_(tiles), panel_(panel), panels_(panels) {
        const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(padded_inputs(a.k)) * 16,
                             scales = int8_groups(a.k) * 16;
        float* acc = acc_;
        for (int i = 0; i < tiles; ++i) {
            const int height = rows / tiles + (i < rows % tiles ? 1 : 0);
            tile_[i] = {static_cast<const std::int8_t*>(a.panels) + panel * stride,
                        stride,
                        a.scales + panel * scales,
                        scales,
                        a.quantized.at(first, 0),
                        acc};
            group_[i] = int8_group_of<S>(height, panels);
            first += height;
            acc += height * panels * 16;
        }
        for (float* at = acc_; at != acc; at += 16) S::store(at, S::zero());
    }

    // After the last group the weights of the panels that follow are fetched.
    void run() {
        const int groups = int8_groups(a_.k);
        for (int g = 0; g < groups; ++g) {
            const int size = int8_group_size(a_.k - g * kInt8Group);
            const std::ptrdiff_t from = g * (kInt8Group * 16);
            const std::ptrdiff_t ahead = g + 1 < groups ? kInt8Group * 16 : panels_ * tile_[0].stride - from;
            for (int i = 0; i < tiles_; ++i) group_[i](tile_[i], g, size, ahead);
        }
        const float* acc = acc_;
        for (int r = 0; r < rows_; ++r) {
            for (int p = 0; p < panels_; ++p, acc += 16) {
                const int channel = (panel_ + p) * 16;
                auto sum = S::load(acc);
                if (a_.bias != nullptr) sum = S::add(sum, S::load(a_.bias + channel));
                S::store_n(a_.y + (first_ + r) * a_.ldy + (channel - a_.panel_begin * 16), sum,
                           a_.n - channel < 16 ? a_.n - channel : 16);
            }
        }
    }

private:
    const LinearArgs& a_;
    const int first_, rows_, tiles_, panel_, panels_;
    Int8Tile tile_[kInt8Tiles];
    Int8Group group_[kInt8Tiles];
    alignas(64) float acc_[kInt8Tiles * int8_sums<S>() * 16];
};

// All rows pass over a tile's panels before the next: their weights come from memory once. Many rows do so one tile
// after the other, since more sums than a tile's would leave the first-level cache to nothing else.
template <class S>
void linear_int8(const LinearArgs& a) {
    if constexpr (S::kPairRows > 0) {
        if (a.rows >= S::kPairLeast) return linear_int8_pairs<S>(a);
    }
    const int tiles = ceil_div(a.rows, S::kInt8Rows);
    const int columns = tiles <= 2 * kInt8Tiles ? ceil_div(tiles, kInt8Tiles) : tiles;
    for (int panel = a.panel_begin, panels = 0; a.rows > 0 && panel < a.panel_end; panel += panels) {
        const int left = a.panel_end - panel, width = int8_width<S>(ceil_div(a.rows, tiles));
        panels = left >= width ? width : left >= 4 ? 4 : left;
        for (int i = 0, first = 0; i < columns; ++i) {
            const int to = part_begin(i + 1, columns, a.rows);
            Int8Column<S>(a, first, to - first, ceil_div(to - first, S::kInt8Rows), panel, panels).run();
            first = to;
        }
    }
}

}  // namespace
}  // namespace pygpt
