#include "ops/linear.h"

#include <algorithm>
#include <limits>

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
// int8: a task's panels, rows and results share that cache. A task after the other takes the same panels and the next
// rows.
constexpr int kInt8Rows = 128;
constexpr int kRowTile = 32;
// What linear_consumed holds of y for each thread.
constexpr int kScratch = kInt8Rows * kPartPanels * 16;

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// How a product is cut: parts of `width` panels, and rows in row_tasks nearly equal parts.
struct Cut {
    int width;
    int row_tasks;
};

// `step`: what parts' panels are a multiple of; `most`: the results that a part may have.
Cut cut(const LinearCall& call, int threads, int step, int most) {
    const int panels = call.weight.panels();
    const int wanted = threads * kTasksPerThread;
    if (call.rows <= kFewRows) {
        const int steps = std::min(ceil_div(panels, wanted), most / (call.rows * 16)) / step;
        return {std::max(1, steps) * step, 1};
    }
    if (call.weight.dtype() == DType::i8) {
        const int tiles = ceil_div(call.rows, kRowTile);
        const int balanced = std::min(ceil_div(wanted, ceil_div(panels, kPartPanels)), tiles);
        return {kPartPanels, std::max(ceil_div(call.rows, kInt8Rows), balanced)};
    }
    const int panel_tasks = ceil_div(panels, kCachedPanels);
    return {kCachedPanels, std::clamp(ceil_div(wanted, panel_tasks), 1, std::max(1, call.rows / kRowGrain))};
}

// Where part i of the rows begins: int8 in whole tiles.
int first_row(const LinearCall& call, int i, int row_tasks) {
    if (call.weight.dtype() != DType::i8) return call.rows * i / row_tasks;
    return std::min(call.rows, ceil_div(call.rows, kRowTile) * i / row_tasks * kRowTile);
}

void compute(const Kernels& kernels, const LinearCall& c, const LinearPart& part) {
    const PackedMatrix& w = c.weight;
    const int rows = part.row_end - part.row_begin;
    if (w.dtype() == DType::i8) {
        kernels.linear_int8({c.quantized.at(part.row_begin, 0), rows, w.k(), static_cast<const std::int8_t*>(w.data()),
                             w.scales(), c.bias, part.y, part.ldy, w.n(), part.panel_begin, part.panel_end});
    } else {
        const auto kernel = w.dtype() == DType::f32 ? kernels.linear_f32 : kernels.linear_bf16;
        kernel({c.x + part.row_begin * c.ldx, c.ldx, rows, w.k(), w.data(), c.bias, part.y - part.panel_begin * 16,
                part.ldy, w.n(), part.panel_begin, part.panel_end});
    }
}

void run(const Kernels& kernels, Team& team, const LinearCall& call, float* scratch,
         const std::function<void(const LinearPart&)>& after) {
    if (call.rows == 0) return;
    const int panels = call.weight.panels();
    const Cut parts = scratch == nullptr ? cut(call, team.size(), kStreamPanels, std::numeric_limits<int>::max())
                                         : cut(call, team.size(), kPartPanels, kScratch);
    team.parallel_for(ceil_div(panels, parts.width) * parts.row_tasks, [&](int task, int thread) {
        const int i = task % parts.row_tasks, p = task / parts.row_tasks * parts.width;
        LinearPart part{first_row(call, i, parts.row_tasks),
                        first_row(call, i + 1, parts.row_tasks),
                        p,
                        std::min(panels, p + parts.width),
                        nullptr,
                        0};
        if (scratch == nullptr) {
            part.y = call.y + part.row_begin * call.ldy + p * 16;
            part.ldy = call.ldy;
        } else {
            part.y = scratch + static_cast<std::ptrdiff_t>(thread) * kScratch;
            part.ldy = parts.width * 16;
        }
        compute(kernels, call, part);
        if (after) after(part);
    });
}

}  // namespace

void linear(const Kernels& kernels, Team& team, const LinearCall& call,
            const std::function<void(const LinearPart&)>& after) {
    run(kernels, team, call, nullptr, after);
}

void linear_consumed(const Kernels& kernels, Team& team, const LinearCall& call, float* scratch,
                     const std::function<void(const LinearPart&)>& after) {
    run(kernels, team, call, scratch, after);
}

std::size_t linear_scratch() { return kScratch; }

}  // namespace pygpt
