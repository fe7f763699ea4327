#include "ops/linear.h"

#include <algorithm>

#include "packing/matrix.h"
#include "threads/parallel.h"

namespace pygpt {

namespace {

// A task's weights stay in half of a usual second-level cache while many rows pass over them.
constexpr std::ptrdiff_t kTaskWeightBytes = 1 << 20;
// Tasks a thread gets on average, so that a slow core can leave some to the others.
constexpr int kTasksPerThread = 4;
// Panels a task takes at least: as many as the widest tile.
constexpr int kPanelGrain = 8;
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
    const auto panel_bytes = static_cast<std::ptrdiff_t>(w.k()) * 16 * static_cast<std::ptrdiff_t>(size_of(w.dtype()));
    const auto cached = static_cast<int>(std::min<std::ptrdiff_t>(kTaskWeightBytes / panel_bytes, panels));
    const int width = std::max(kPanelGrain, std::min(cached, ceil_div(panels, wanted)) / kPanelGrain * kPanelGrain);
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
