#include "ops/linear.h"

#include <algorithm>
#include <limits>

#include "base/lanes.h"
#include "packing/matrix.h"
#include "threads/parallel.h"

namespace pygpt {

namespace {

// Tasks a thread gets on average, so that a slow core can leave some to the others.
constexpr int kTasksPerThread = 8;
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

// How a product is cut: into panel_parts x row_parts parts, which begin at multiples of panel_step panels and row_step
// rows and are nearly equal.
struct Cut {
    int panel_parts, panel_step;
    int row_parts, row_step;
};

// `step`: what parts' panels have to be a multiple of; `most`: the results that a part may have.
Cut cut(const LinearCall& call, int threads, int step, int most) {
    const int panels = call.weight.panels();
    const int wanted = threads * kTasksPerThread;
    if (call.rows <= kFewRows) {
        const int steps = ceil_div(panels, step), fits = most / (call.rows * 16 * step);
        return {std::max(std::min(steps, wanted), ceil_div(steps, fits)), step, 1, call.rows};
    }
    if (call.weight.dtype() == DType::i8) {
        const int tiles = ceil_div(call.rows, kRowTile), panel_parts = ceil_div(panels, kPartPanels);
        const int balanced = std::min(ceil_div(wanted, panel_parts), tiles);
        return {panel_parts, kPartPanels, std::max(ceil_div(call.rows, kInt8Rows), balanced), kRowTile};
    }
    const int panel_parts = ceil_div(panels, kCachedPanels);
    const int row_parts = std::clamp(ceil_div(wanted, panel_parts), 1, std::max(1, call.rows / kRowGrain));
    return {panel_parts, kCachedPanels, row_parts, 1};
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
    const Cut c = scratch == nullptr ? cut(call, team.size(), kStreamPanels, std::numeric_limits<int>::max())
                                     : cut(call, team.size(), kPartPanels, kScratch);
    team.parallel_for(c.panel_parts * c.row_parts, [&](int task, int thread) {
        const int i = task % c.row_parts, p = task / c.row_parts;
        LinearPart part{};
        part.row_begin = part_begin(i, c.row_parts, call.rows, c.row_step);
        part.row_end = part_begin(i + 1, c.row_parts, call.rows, c.row_step);
        part.panel_begin = part_begin(p, c.panel_parts, panels, c.panel_step);
        part.panel_end = part_begin(p + 1, c.panel_parts, panels, c.panel_step);
        if (scratch == nullptr) {
            part.y = call.y + part.row_begin * call.ldy + part.panel_begin * 16;
            part.ldy = call.ldy;
        } else {
            part.y = scratch + static_cast<std::ptrdiff_t>(thread) * kScratch;
            part.ldy = (part.panel_end - part.panel_begin) * 16;
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
