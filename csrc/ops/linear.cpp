#include "ops/linear.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <vector>

#include "base/lanes.h"
#include "threads/parallel.h"

namespace pygpt {

namespace {

// Tasks a thread gets on average, so that a slow core can leave some to the others.
constexpr int kTasksPerThread = 8;
// Up to this many rows are one tile, or nearly: the weights are read once, and a task is a stretch of them, at least as
// wide as the widest tile.
constexpr int kFewRows = 32;
constexpr int kStreamPanels = 8;
// What scratch holds of y for each thread: as many results as a part of many rows has at most.
constexpr int kScratch = 128 * kPartPanels * 16;

// Of about `wanted` parts, or as many as keep the threads busy where that is more.
LinearCut cut(const LinearCall& call, int wanted, int threads) {
    const int panels = call.weight.panels();
    if (call.rows > kFewRows) {
        LinearCut many = call.weight.format().cut(call.rows, panels, wanted);
        if (call.y != nullptr) return many;
        const int width = ceil_div(ceil_div(panels, many.panel_step), many.panel_parts) * many.panel_step;
        const int fits = kScratch / (16 * width * many.row_step);
        many.row_parts = std::max(many.row_parts, ceil_div(ceil_div(call.rows, many.row_step), fits));
        return many;
    }
    // A matrix of few panels, such as a router's, has narrower parts rather than idle threads.
    const int narrow = panels / threads / 2 * 2;
    const int step = call.y == nullptr ? kPartPanels : std::clamp(narrow, 2, kStreamPanels);
    const int most = call.y == nullptr ? kScratch : std::numeric_limits<int>::max();
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

// A call's share of the tasks; they are numbered from `first` on.
struct Share {
    LinearCut cut;
    int first;
};

// Tasks are shared out by what they cost: weights are read once for a few rows, and multiplied for each.
std::vector<Share> shares(std::span<const LinearCall> calls, int threads, int& tasks) {
    constexpr double kRead = 8.0;
    const auto cost = [](const LinearCall& c) {
        return static_cast<double>(c.weight.panels()) * c.weight.k() * (c.rows + kRead);
    };
    double total = 0.0;
    for (const LinearCall& c : calls) total += cost(c);
    std::vector<Share> out;
    out.reserve(calls.size());
    tasks = 0;
    for (const LinearCall& c : calls) {
        const double part = calls.size() == 1 ? 1.0 : cost(c) / total;
        const LinearCut it = c.rows == 0
                                 ? LinearCut{}
                                 : cut(c, std::max(1, static_cast<int>(threads * kTasksPerThread * part)), threads);
        out.push_back({it, tasks});
        tasks += it.panel_parts * it.row_parts;
    }
    return out;
}

LinearPart part_of(const LinearCall& call, const LinearCut& c, int task, float* scratch) {
    const int i = task % c.row_parts, p = task / c.row_parts, panels = call.weight.panels();
    LinearPart part{};
    part.row_begin = part_begin(i, c.row_parts, call.rows, c.row_step);
    part.row_end = part_begin(i + 1, c.row_parts, call.rows, c.row_step);
    part.panel_begin = part_begin(p, c.panel_parts, panels, c.panel_step);
    part.panel_end = part_begin(p + 1, c.panel_parts, panels, c.panel_step);
    if (call.y == nullptr) {
        part.y = scratch;
        part.ldy = (part.panel_end - part.panel_begin) * 16;
        assert((part.row_end - part.row_begin) * part.ldy <= kScratch);
    } else {
        part.y = call.y + part.row_begin * call.ldy + part.panel_begin * 16;
        part.ldy = call.ldy;
    }
    return part;
}

}  // namespace

void linears(Team& team, std::span<const LinearCall> calls, float* scratch,
             FunctionRef<void(int, const LinearPart&)> after) {
    int tasks = 0;
    const std::vector<Share> parts = shares(calls, team.size(), tasks);
    team.parallel_for(tasks, [&](int task, int thread) {
        const auto found = std::upper_bound(parts.begin(), parts.end(), task,
                                            [](int wanted, const Share& share) { return wanted < share.first; }) -
                           1;
        const auto at = static_cast<std::size_t>(found - parts.begin());
        float* const own = scratch == nullptr ? nullptr : scratch + static_cast<std::ptrdiff_t>(thread) * kScratch;
        const LinearPart part = part_of(calls[at], found->cut, task - found->first, own);
        compute(calls[at], part);
        if (after) after(static_cast<int>(at), part);
    });
}

void linear(Team& team, const LinearCall& call, FunctionRef<void(const LinearPart&)> after) {
    const auto told = [&](int, const LinearPart& part) {
        if (after) after(part);
    };
    linears(team, {&call, 1}, nullptr, told);
}

std::size_t linear_scratch() { return kScratch; }

}  // namespace pygpt
