// The body of kernels/linear.h.
#pragma once

#include "kernels/body/tile.h"
#include "kernels/linear.h"

namespace pygpt {
namespace {

template <class S, class T>
void linear(const LinearArgs& a) {
    using V = typename S::F32;
    const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(a.k) * 16;
    const T* panels = static_cast<const T*>(a.panels) + a.panel_begin * stride;
    const auto store = [&](int row, int panel, V sum) {
        const int channel = (a.panel_begin + panel) * 16;
        const int lanes = a.n - channel;
        float* y = a.y + row * a.ldy + channel;
        if (a.bias != nullptr) sum = S::add(sum, S::load(a.bias + channel));
        if (lanes >= 16) {
            S::store(y, a.add_to_y ? S::add(S::load(y), sum) : sum);
        } else {
            S::store_n(y, a.add_to_y ? S::add(S::load_n(y, lanes), sum) : sum, lanes);
        }
    };
    const Product<T, true> product{a.x, a.ldx, a.k, panels, stride};
    block_product<S>(product, a.rows, a.panel_end - a.panel_begin, [](int, int) { return S::zero(); }, store);
}

}  // namespace
}  // namespace pygpt
