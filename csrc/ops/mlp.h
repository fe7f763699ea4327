// The feed-forward layer: y = down(f(gate x) * up x), or down(f(up x)) without a gate, for one MLP or several at once.
#pragma once

#include <span>

#include "base/function_ref.h"
#include "kernels/table.h"
#include "ops/activations.h"
#include "ops/linear.h"

namespace pygpt {

struct Mlp {
    Linear up;  // gated: panels of 16 gate channels and of 16 up channels alternate
    Linear down;
};

struct MlpKind {
    Activation activation;
    bool gated;
};

// Of the two forms of each input, rows of floats and quantised ones, only that which the format of its product reads is
// used: `x` or `quantized`, `inner` or `prepared`.
struct MlpCall {
    const Mlp& weights;
    int n_inner;
    int rows;
    Activations x;
    QuantizedRows quantized;
    Activations up;  // the values before the activation, where `up`'s format reads floats
    Activations inner;  // and after it; without a gate the place of `up`
    QuantizedRows prepared;
    Activations y;  // may be x
    // Is shown the values after the activation, in parts of rows from `first` on, and may change them
    FunctionRef<void(int row, int first, float* values, int n)> look = nullptr;
};

// `scratch`: linear_scratch() floats for each thread.
void run_mlps(const Kernels& kernels, Team& team, MlpKind kind, std::span<const MlpCall> calls, float* scratch);

}  // namespace pygpt
