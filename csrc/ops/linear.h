// y = x W^T (+ bias) on a team of threads.
#pragma once

#include <cstddef>
#include <functional>

#include "kernels/table.h"

namespace pygpt {

class PackedMatrix;
class Team;

struct LinearCall {
    const PackedMatrix& weight;
    const float* bias;  // (n rounded up to 16,) or null
    const float* x;     // (rows, k), row stride ldx
    std::ptrdiff_t ldx;
    int rows;
    float* y;  // (rows, n), row stride ldy
    std::ptrdiff_t ldy;
};

// A part of y that one thread has just finished: rows [row_begin, row_end) of the panels [panel_begin, panel_end),
// where panel_begin is even.
struct LinearPart {
    int row_begin, row_end;
    int panel_begin, panel_end;
};

// `after`, if given, is called on the thread that computed a part while it still lies in the cache.
void linear(const Kernels& kernels, Team& team, const LinearCall& call,
            const std::function<void(const LinearPart&)>& after = nullptr);

}  // namespace pygpt
