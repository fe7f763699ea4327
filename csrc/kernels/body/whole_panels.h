// A call of a product cut so that its kernel need not know of panels that are not full.
#pragma once

#include "kernels/linear_format.h"

namespace pygpt {
namespace {

// multiply() for the call's whole panels; and for a last one of which y has not all channels, whose sums go through
// memory that has, of at most `most` rows at a time.
template <class S, int most>
inline void for_whole_panels(const LinearArgs& a, void (*multiply)(const LinearArgs&)) {
    const int whole = a.n / 16;
    if (a.panel_end <= whole || a.panel_begin == a.panel_end) return multiply(a);
    LinearArgs part = a;
    part.panel_end = whole;
    if (a.panel_begin < whole) multiply(part);
    alignas(64) float y[most * 16];
    part.panel_begin = whole;
    part.panel_end = a.panel_end;
    part.y = y;
    part.ldy = 16;
    for (int row = 0; row < a.rows; row += most) {
        part.rows = a.rows - row < most ? a.rows - row : most;
        if (a.x != nullptr) {
            part.x = a.x + row * a.ldx;
        } else {
            part.quantized = a.quantized.at(row, 0);
        }
        multiply(part);
        for (int r = 0; r < part.rows; ++r)
            S::store_n(a.y + (row + r) * a.ldy + (whole - a.panel_begin) * 16, S::load(y + r * 16), a.n - whole * 16);
    }
}

}  // namespace
}  // namespace pygpt
