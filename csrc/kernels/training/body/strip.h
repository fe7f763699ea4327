// The small products that attention's training passes are made of.
#pragma once

#include <cstddef>

#include "base/lanes.h"
#include "kernels/body/tile.h"

namespace pygpt {
namespace {

// Rows that a product takes at once. Everything that depends on a position, such as which keys are visible, is decided
// for a strip as a whole, so that results do not depend on the tile that an instruction set prefers.
constexpr int kStrip = 8;

// The operands of a strip's product, in the words of kernels/body/tile.h. T: as in body/factors.h.
template <class T>
struct StripProduct {
    const T* a;
    std::ptrdiff_t row_of_a, step_of_a;
    const T* b;
    std::ptrdiff_t step_of_b, panel_stride;
    int k;

    static constexpr bool kPrefetches = false, kFetchesNext = false, kWidens = false;
    std::ptrdiff_t a_row() const { return row_of_a; }
    std::ptrdiff_t a_step() const { return step_of_a; }
    std::ptrdiff_t b_step() const { return step_of_b; }
};

// end(row, panel, sum) for the rows of a strip and n_panels panels of 16 columns, as tile() does.
template <class S, class T, class Begin, class End>
inline void strip_product(const StripProduct<T>& m, int n_panels, Begin begin, End end) {
    constexpr int rows = S::kRegisters >= 32 ? 8 : S::kRegisters >= 8 ? 4 : 1, wide = S::kRegisters >= 32 ? 2 : 1;
    const auto part = [&]<int panels>(int row, int panel) {
        const StripProduct<T> of_row{m.a + row * m.row_of_a, m.row_of_a, m.step_of_a, m.b, m.step_of_b,
                                     m.panel_stride,         m.k};
        tile<S, rows, panels>(
            of_row, panel, [&](int r, int p) { return begin(row + r, p); },
            [&](int r, int p, typename S::F32 sum) { end(row + r, p, sum); });
    };
    int panel = 0;
    for (; panel + wide <= n_panels; panel += wide) {
        for (int row = 0; row < kStrip; row += rows) part.template operator()<wide>(row, panel);
    }
    if constexpr (wide > 1) {
        for (int row = 0; panel < n_panels && row < kStrip; row += rows) part.template operator()<1>(row, panel);
    }
}

// c[r * ldc + 16 p] (if `add`, else 0) + the product, into c.
template <class S, class T>
inline void strip_product_to(const StripProduct<T>& m, int n_panels, float* c, std::ptrdiff_t ldc, bool add) {
    strip_product<S>(
        m, n_panels, [=](int r, int p) { return add ? S::load(c + r * ldc + p * 16) : S::zero(); },
        [=](int r, int p, typename S::F32 sum) { S::store(c + r * ldc + p * 16, sum); });
}

}  // namespace
}  // namespace pygpt
