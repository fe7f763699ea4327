#include "ops/linear.h"

#include <algorithm>
#include <cassert>
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
// What linear_consumed holds of y for each thread: as many results as a part of many rows has at most.
constexpr int kScratch = 128 * kPartPanels * 16;

// `step`: what parts' panels have to be a multiple of; `most`: the results that a part may have.
LinearCut cut(const LinearCall& call, int threads, int step, int most) {
    const int panels = call.weight.panels();
    const int wanted = threads * kTasksPerThread;
    if (call.rows > kFewRows) return call.weight.format().cut(call.rows, panels, wanted);
    const int steps = ceil_div(panels, step), fits = most / (call.rows * 16 * step);
    return {std::max(std::min(steps, wanted), ceil_div(steps, fits)), step, 1, call.rows};
}

void compute(const LinearCall& c, const LinearPart& part) {
    const PackedMatrix& w = c.weight;
    const LinearFormat& format = w.format();
    LinearArgs args{};
    if (format.prepare == nullptr) {
        args.x = c.x + part.row_begin * c.ldx;
        args.ldx = c.ldx;
    } else {
        args.quantized = c.quantized.at(part.row_begin, 0);
    }
    args.rows = part.row_end - part.row_begin;
    args.k = w.k();
    args.panels = w.data();
    args.scales = w.scales();
    args.bias = c.bias;
    args.y = part.y;
    args.ldy = part.ldy;
    args.n = w.n();
    args.panel_begin = part.panel_begin;
    args.panel_end = part.panel_end;
    format.multiply(args);
}

void run(Team& team, const LinearCall& call, float* scratch, const std::function<void(const LinearPart&)>& after) {
    if (call.rows == 0) return;
    const int panels = call.weight.panels();
    const LinearCut c = scratch == nullptr ? cut(call, team.size(), kStreamPanels, std::numeric_limits<int>::max())
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
            assert((part.row_end - part.row_begin) * part.ldy <= kScratch);
        }
        compute(call, part);
        if (after) after(part);
    });
}

}  // namespace

void linear(Team& team, const LinearCall& call, const std::function<void(const LinearPart&)>& after) {
    run(team, call, nullptr, after);
}

void linear_consumed(Team& team, const LinearCall& call, float* scratch,
                     const std::function<void(const LinearPart&)>& after) {
    run(team, call, scratch, after);
}

std::size_t linear_scratch() { return kScratch; }

}  // namespace pygpt
