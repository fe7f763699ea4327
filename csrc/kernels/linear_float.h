// Contract: y = x W^T + bias, for some of W's output channels.
#pragma once

#include <cstddef>

namespace pygpt {

// Every output is one chain of fused multiply-adds over k = 0, 1, ... starting from zero, then + bias. So an output
// does not depend on how many rows are computed together, nor on the panel range.
struct LinearArgs {
    const float* x;         // (rows, k), row stride ldx
    std::ptrdiff_t ldx;
    int rows;
    int k;
    const void* panels;     // packed weights, [n / 16][k][16] elements, channels beyond n zero (packing/matrix.h)
    const float* bias;      // (n rounded up to 16,) or null
    float* y;               // (rows, n), row stride ldy
    std::ptrdiff_t ldy;
    int n;
    int panel_begin;        // this call computes the channels 16 * panel_begin ... 16 * panel_end - 1
    int panel_end;
};

}  // namespace pygpt
