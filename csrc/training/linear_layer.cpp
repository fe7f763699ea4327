#include "training/linear_layer.h"

#include <algorithm>

#include "base/lanes.h"
#include "threads/parallel.h"

namespace pygpt::training {

namespace {

// Columns that a task adds up.
constexpr int kColumns = 64;

void add_rows(const TrainingKernels& kernels, Team& team, const float* x, int rows, int n, float* sums) {
    team.parallel_for(ceil_div(n, kColumns), [&](int task, int) {
        const int first = task * kColumns;
        kernels.add_rows(x + first, n, rows, std::min(kColumns, n - first), sums + first);
    });
}

}  // namespace

void linear_forward(Team& team, Matmul& matmul, const LinearSizes& s, const float* x, const float* weight,
                    const float* bias, float* y) {
    matmul.run(team, {.a = {x, s.inputs, false},
                      .b = {weight, s.inputs, true},
                      .c = y,
                      .ldc = s.outputs,
                      .m = s.rows,
                      .n = s.outputs,
                      .k = s.inputs,
                      .add = false,
                      .bias = bias});
}

void linear_backward(const TrainingKernels& kernels, Team& team, Matmul& matmul, const LinearSizes& s,
                     const LinearGradients& g) {
    matmul.run(team, {.a = {g.dy, s.outputs, false},
                      .b = {g.weight, s.inputs, false},
                      .c = g.dx,
                      .ldc = s.inputs,
                      .m = s.rows,
                      .n = s.inputs,
                      .k = s.outputs,
                      .add = false,
                      .bias = nullptr});
    if (g.dweight != nullptr) {
        matmul.run(team, {.a = {g.dy, s.outputs, true},
                          .b = {g.x, s.inputs, false},
                          .c = g.dweight,
                          .ldc = s.inputs,
                          .m = s.outputs,
                          .n = s.inputs,
                          .k = s.rows,
                          .add = true,
                          .bias = nullptr});
    }
    if (g.dbias != nullptr) add_rows(kernels, team, g.dy, s.rows, s.outputs, g.dbias);
}

}  // namespace pygpt::training
