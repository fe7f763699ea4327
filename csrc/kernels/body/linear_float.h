// The body of kernels/linear_float.h.
#pragma once

#include "kernels/body/tile.h"
#include "kernels/linear_float.h"

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
            return S::load_n(a.y + row * a.ldy + channel, a.n - channel < 16 ? a.n - channel : 16);
        };
        const auto end = [&](int row, int panel, V sum) {
            const int channel = (a.panel_begin + panel) * 16;
            if (last && a.bias != nullptr) sum = S::add(sum, S::load(a.bias + channel));
            S::store_n(a.y + row * a.ldy + channel, sum, a.n - channel < 16 ? a.n - channel : 16);
        };
        const Product<T> product{a.x + from, a.ldx, to - from, panels + from * 16, stride, kPrefetchBytes};
        block_product<S>(product, a.rows, a.panel_end - a.panel_begin, begin, end);
    }
}

}  // namespace
}  // namespace pygpt
