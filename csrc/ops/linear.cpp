#include "ops/linear.h"

#include <algorithm>

#include "packing/matrix.h"
#include "threads/parallel.h"

namespace pygpt {

namespace {

// Tasks a thread gets on average, so that a slow core can leave some to the others.
constexpr int kTasksPerThread = 4;
// Up to this many rows are one tile, or nearly: the weights are read once, and a task is a stretch of them, at least as
// wide as the widest tile.
constexpr int kFewRows = 9;
constexpr int kStreamPanels = 8;
// With more rows, a task's panels stay in the second-level cache while the rows pass over them. A multiple of every
// tile's width.
constexpr int kCachedPanels = 24;
// Rows a task takes at least when rows are split as well.
constexpr int kRowGrain = 48;

int ceil_div(int a, int b) { return (a + b - 1) / b; }

}  // namespace

void linear(const Kernels& kernels, Team& team, const LinearCall& call,
            const std::function<void(const LinearPart&)>& after) {
    if (call.rows == 0) return;
    const PackedMatrix& w = call.weight;
    const int panels = w.panels();
    const int wanted = team.size() * kTasksPerThread;
    const int stretch = std::max(1, ceil_div(panels, wanted) / kStreamPanels) * kStreamPanels;
    const int width = call.rows <= kFewRows ? stretch : kCachedPanels;
    const int panel_tasks = ceil_div(panels, width);
    const int row_tasks = std::clamp(ceil_div(wanted, panel_tasks), 1, std::max(1, call.rows / kRowGrain));
    const auto kernel = w.dtype() == DType::f32 ? kernels.linear_f32 : kernels.linear_bf16;
    team.parallel_for(panel_tasks * row_tasks, [&](int task, int) {
        const int i = task % row_tasks, p = task / row_tasks;
        const LinearPart part{call.rows * i / row_tasks, call.rows * (i + 1) / row_tasks, p * width,
                              std::min(panels, (p + 1) * width)};
        kernel({call.x + part.row_begin * call.ldx, call.ldx, part.row_end - part.row_begin, w.k(), w.data(), call.bias,
                call.y + part.row_begin * call.ldy, call.ldy, w.n(), part.panel_begin, part.panel_end});
        if (after) after(part);
    });
}

}  // namespace pygpt
