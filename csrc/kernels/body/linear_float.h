// The formats whose weights are plain floats, [k][16] in each panel (kernels/linear_format.h).
#pragma once

#include "kernels/body/tile.h"
#include "kernels/body/turn.h"
#include "kernels/linear_format.h"

namespace pygpt {
namespace {

// Inputs of one pass over many rows: the pass's weights of a tile and its rows then stay in the first two cache levels.
constexpr int kInputBlock = 768;

// How far ahead of its loads each panel's stream of weights is fetched into the cache, in bytes.
constexpr int kPrefetchBytes = 2048;

template <class S, class T>
void linear_float(const LinearArgs& a) {
    using V = typename S::F32;
    const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(a.k) * 16;
    const T* panels = static_cast<const T*>(a.panels) + a.panel_begin * stride;
    const int passes = a.rows <= tile_rows<S>() ? 1 : ceil_div(a.k, kInputBlock);
    for (int pass = 0; pass < passes; ++pass) {
        const int from = part_begin(pass, passes, a.k);
        const int to = part_begin(pass + 1, passes, a.k);
        const bool first = pass == 0, last = pass == passes - 1;
        // Between passes the unfinished chain lies in y: a float32 loses nothing there.
        const auto begin = [&](int row, int panel) {
            if (first) return S::zero();
            const int channel = (a.panel_begin + panel) * 16;
            return S::load_n(a.y + row * a.ldy + panel * 16, a.n - channel < 16 ? a.n - channel : 16);
        };
        const auto end = [&](int row, int panel, V sum) {
            const int channel = (a.panel_begin + panel) * 16;
            if (last && a.bias != nullptr) sum = S::add(sum, S::load(a.bias + channel));
            S::store_n(a.y + row * a.ldy + panel * 16, sum, a.n - channel < 16 ? a.n - channel : 16);
        };
        const Product<T> product{a.x + from, a.ldx, to - from, panels + from * 16, stride, kPrefetchBytes};
        block_product<S>(product, a.rows, a.panel_end - a.panel_begin, begin, end);
    }
}

inline void to_weight(float x, float& to) { to = x; }
inline void to_weight(float x, BFloat16& to) { to = to_bfloat16(x); }

template <class T>
bool pack_float(const PackArgs& a) {
    T* const panel = static_cast<T*>(a.panel);
    for (std::ptrdiff_t i = 0; i < a.k * std::ptrdiff_t{16}; ++i) to_weight(a.weights[i], panel[i]);
    return true;
}

template <class T>
void read_float_row(const void* panel, const BFloat16*, int k, int lane, float* out) {
    const T* at = static_cast<const T*>(panel) + lane;
    for (std::ptrdiff_t i = 0; i < k; ++i) out[i] = to_float(at[i * 16]);
}

// Panels of a task, a multiple of every tile's width; and rows that it has at least when rows are split as well.
constexpr int kFloatPanels = 24, kFloatRows = 48;

inline LinearCut float_cut(int rows, int panels, int tasks) {
    const int panel_parts = ceil_div(panels, kFloatPanels), most = rows < kFloatRows ? 1 : rows / kFloatRows;
    const int wanted = ceil_div(tasks, panel_parts);
    return {panel_parts, kFloatPanels, wanted < most ? wanted : most, 1};
}

template <class S, class T>
constexpr LinearFormat float_format(const char* name, DType dtype) {
    LinearFormat f{};
    f.name = name;
    f.dtype = dtype;
    f.piece = f.step = 1;
    f.group = kMostGroup;
    f.turn = turn<S>;
    f.pack = pack_float<T>;
    f.read_row = read_float_row<T>;
    f.multiply = linear_float<S, T>;
    f.cut = float_cut;
    return f;
}

}  // namespace
}  // namespace pygpt
