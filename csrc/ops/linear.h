// y = x W^T (+ bias) on a team of threads.
#pragma once

#include <cstddef>
#include <functional>

#include "kernels/linear_format.h"

namespace pygpt {

class PackedMatrix;
class Team;

struct LinearCall {
    const PackedMatrix& weight;
    const float* bias;  // (n rounded up to 16,) or null
    const float* x;     // (rows, k), row stride ldx
    std::ptrdiff_t ldx;
    QuantizedRows quantized;  // instead of x where the weights' format prepares its input
    int rows;
    float* y;  // (rows, n), row stride ldy
    std::ptrdiff_t ldy;
};

// Panels that the parts of linear_consumed are a multiple of: so many channels of a gated product, half of them gates,
// that what remains are whole groups of any format's inputs.
constexpr int kPartPanels = 2 * kMostGroup / 16;

// A part of y that one thread has just finished: rows [row_begin, row_end) of the panels [panel_begin, panel_end),
// where panel_begin is a multiple of 8.
struct LinearPart {
    int row_begin, row_end;
    int panel_begin, panel_end;
    float* y;  // the first row's channel 16 * panel_begin; row stride ldy
    std::ptrdiff_t ldy;
};

// `after`, if given, is called on the thread that computed a part while it still lies in the cache.
void linear(Team& team, const LinearCall& call, const std::function<void(const LinearPart&)>& after = nullptr);

// The same for a product whose y is of no use but to `after`: each thread reuses linear_scratch() floats of `scratch`
// for one part after the other. The call's y and ldy are ignored.
void linear_consumed(Team& team, const LinearCall& call, float* scratch,
                     const std::function<void(const LinearPart&)>& after);

// Floats that linear_consumed needs for each thread.
std::size_t linear_scratch();

}  // namespace pygpt
