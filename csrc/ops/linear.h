// y = x W^T (+ bias) on a team of threads.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/function_ref.h"
#include "kernels/linear_format.h"
#include "kernels/softmax.h"
#include "packing/matrix.h"

namespace pygpt {

class Team;

struct Linear {
    PackedMatrix weight;
    std::vector<float> bias;  // (n rounded up to 16,), or empty

    const float* bias_or_null() const { return bias.empty() ? nullptr : bias.data(); }
};

struct LinearCall {
    const PackedMatrix& weight;
    const float* bias;  // (n rounded up to 16,) or null
    const float* x;     // (rows, k), row stride ldx
    std::ptrdiff_t ldx;
    QuantizedRows quantized;  // instead of x where the weights' format prepares its input
    int rows;
    float* y;  // (rows, n), row stride ldy; null: of no use but to `after`, which finds it in the thread's scratch
    std::ptrdiff_t ldy;
};

// Panels that the parts of a product without a y are a multiple of, where the weights' format prepares its input or
// rows are few: so many channels of a gated product, half of them gates, that what remains are whole groups of any
// format's inputs. In any case such parts are whole blocks of a softmax.
constexpr int kPartPanels = 2 * kMostGroup / 16;
static_assert(kPartPanels * 16 % kSoftmaxBlock == 0);

// A part of y that one thread has just finished: rows [row_begin, row_end) of the panels [panel_begin, panel_end),
// where panel_begin is even.
struct LinearPart {
    int row_begin, row_end;
    int panel_begin, panel_end;
    float* y;  // the first row's channel 16 * panel_begin; row stride ldy
    std::ptrdiff_t ldy;
};

// `after`, if given, is called on the thread that computed a part while it still lies in the cache.
void linear(Team& team, const LinearCall& call, FunctionRef<void(const LinearPart&)> after = nullptr);

// Several products at once: no thread waits for another before all are done. `after` is told the call's number. Where
// calls have no y, `scratch` has linear_scratch() floats for each thread, which it reuses for one part after the other.
void linears(Team& team, std::span<const LinearCall> calls, float* scratch,
             FunctionRef<void(int call, const LinearPart&)> after);

std::size_t linear_scratch();

// How a product is dealt out to a team: the cut's parts are tasks, row parts of the same panels one after another; or
// where there is no y and parts of whole groups are too few for so many threads, so many pieces of each are.
struct LinearPlan {
    LinearCut cut{};
    int pieces = 1;
};

// `paired`: parts begin at even panels.
LinearPlan plan_linear(const LinearCall& call, int threads, bool paired);

}  // namespace pygpt
