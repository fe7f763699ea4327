#include "ops/linear.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <vector>

#include "base/lanes.h"
#include "threads/parallel.h"

namespace pygpt {

namespace {

// Tasks a thread gets at most, so that a slow core can leave some to the others.
constexpr int kTasksPerThread = 8;
// The busiest thread's share, by the mean, is to be no more: where there are fewer tasks a thread, and otherwise.
constexpr int kEnoughTasks = 4;
constexpr double kFair = 1.125, kFairEnough = 1.25;
// Up to this many rows are a few tiles, one below the other: the weights are read once, and a task is a stretch of
// them, if that leaves no thread idle as wide as the widest tile.
constexpr int kFewRows = 32;
constexpr int kStreamPanels = 8;
// What scratch holds of y for each thread: as many results as a part of many rows has at most.
constexpr int kScratch = 128 * kPartPanels * 16;
// Pieces that a part without a y is computed in at most, and parts that may be: a counter each.
constexpr int kMostPieces = 8, kPiecedParts = 512;

// The size of the largest of `parts` nearly equal parts of n, which begin at multiples of `step`.
int widest(int parts, int n, int step) { return ceil_div(ceil_div(n, step), parts) * step; }

// The busiest thread's share, by the mean, where `steps` of `step` panels are dealt out.
double unfairness(int panels, int step, int steps, int threads) {
    return static_cast<double>(std::min(panels, ceil_div(steps, threads) * step)) * threads / panels;
}

// Stretches of weights, of which each thread begins with equally many. A matrix of few panels has narrow ones rather
// than idle threads.
LinearCut cut_few_rows(const LinearCall& call, int threads, int unit) {
    const int panels = call.weight.panels();
    const auto unfair = [&](int step) { return unfairness(panels, step, ceil_div(panels, step), threads); };
    const double allowed = std::max(kFair, unfair(unit));
    int step = kStreamPanels;
    while (step > unit && unfair(step) > allowed) step /= 2;
    const int each = std::max(panels / (kStreamPanels * threads), std::min(2, panels / (kStreamPanels / 2 * threads)));
    return {std::min(ceil_div(panels, step), threads * std::clamp(each, 1, kTasksPerThread)), step, 1, call.rows};
}

// The busiest thread's share, by the mean.
double busiest(const LinearCut& c, int panels, int rows, int threads) {
    const int tasks = c.panel_parts * c.row_parts;
    const auto before = [&](int task) {
        const int p = task / c.row_parts, i = task % c.row_parts;
        const double begin = part_begin(p, c.panel_parts, panels, c.panel_step);
        const double end = part_begin(p + 1, c.panel_parts, panels, c.panel_step);
        return begin * rows + (end - begin) * part_begin(i, c.row_parts, rows, c.row_step);
    };
    double most = 0.0;
    for (int i = 0; i < threads; ++i) {
        most = std::max(most, before(part_begin(i + 1, threads, tasks)) - before(part_begin(i, threads, tasks)));
    }
    return most * threads / (static_cast<double>(panels) * rows);
}

// The format's cut; or, where that cannot be dealt out well, parts of one width, or narrower ones.
LinearCut cut_many_rows(const LinearCall& call, int threads, int unit) {
    const int panels = call.weight.panels();
    LinearCut c = call.weight.format().cut(call.rows, panels, threads * kTasksPerThread);
    const auto fair = [&] {
        const double allowed = c.panel_parts * c.row_parts < kEnoughTasks * threads ? kFair : kFairEnough;
        return busiest(c, panels, call.rows, threads) <= allowed;
    };
    if (!fair()) c.panel_step = std::min(c.panel_step, round_up(ceil_div(panels, c.panel_parts), 2));
    while (c.panel_step > unit && !fair()) {
        c.panel_step = std::max(unit, c.panel_step / 2 / unit * unit);
        c.panel_parts = ceil_div(panels, c.panel_step);
    }
    return c;
}

// Without a y: parts of whole groups, which fit into the scratch.
LinearCut cut_consumed(const LinearCall& call, int threads) {
    const int panels = call.weight.panels(), wanted = threads * kTasksPerThread;
    if (call.rows <= kFewRows) {
        const int steps = ceil_div(panels, kPartPanels), fits = kScratch / (call.rows * 16 * kPartPanels);
        return {std::max(std::min(steps, wanted), ceil_div(steps, fits)), kPartPanels, 1, call.rows};
    }
    LinearCut c = call.weight.format().cut(call.rows, panels, wanted);
    const int fits = kScratch / (16 * widest(c.panel_parts, panels, c.panel_step) * c.row_step);
    c.row_parts = std::max(c.row_parts, ceil_div(ceil_div(call.rows, c.row_step), fits));
    return c;
}

}  // namespace

LinearPlan plan_linear(const LinearCall& call, int threads, bool paired) {
    if (call.rows == 0) return {};
    const int unit = paired ? 2 : 1;
    if (call.y != nullptr) {
        return {call.rows > kFewRows ? cut_many_rows(call, threads, unit) : cut_few_rows(call, threads, unit), 1};
    }
    const LinearCut c = cut_consumed(call, threads);
    const int panels = call.weight.panels(), parts = c.panel_parts * c.row_parts;
    if (parts >= kEnoughTasks * threads || parts > kPiecedParts) return {c, 1};
    // Each part's results lie side by side, and whoever finishes the last piece of one consumes it.
    const std::ptrdiff_t floats = 16 * widest(c.panel_parts, panels, c.panel_step) *
                                  static_cast<std::ptrdiff_t>(widest(c.row_parts, call.rows, c.row_step));
    if (parts * floats > static_cast<std::ptrdiff_t>(threads) * kScratch) return {c, 1};
    const auto unfair = [&](int pieces) { return unfairness(parts * pieces, 1, parts * pieces, threads); };
    int best = 1;
    for (int pieces = 2; pieces <= kMostPieces && unfair(best) > kFair; pieces *= 2) {
        if (unfair(pieces) < unfair(best)) best = pieces;
    }
    return {c, best};
}

namespace {

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

// Of the threads each of several calls gets as many as what it costs says: weights are read once for a few rows, and
// multiplied for each.
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
        const int some = std::max(1, static_cast<int>(threads * cost(c) / total + 0.5));
        const LinearCut it = plan_linear(c, some, true).cut;
        out.push_back({it, tasks});
        tasks += it.panel_parts * it.row_parts;
    }
    return out;
}

// A thread's part of the scratch.
float* own(float* scratch, int thread) {
    return scratch == nullptr ? nullptr : scratch + static_cast<std::ptrdiff_t>(thread) * kScratch;
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

// One product without a y, in pieces: the last one of a part to be finished has all of it consumed.
void run_pieces(Team& team, const LinearCall& call, const LinearPlan& plan, float* scratch,
                FunctionRef<void(int, const LinearPart&)> after) {
    const LinearCut& c = plan.cut;
    const int parts = c.panel_parts * c.row_parts;
    const std::ptrdiff_t floats = static_cast<std::ptrdiff_t>(team.size()) * kScratch / parts / 16 * 16;
    std::array<std::atomic<int>, kPiecedParts> left;
    for (int i = 0; i < parts; ++i) left[static_cast<std::size_t>(i)].store(plan.pieces, std::memory_order_relaxed);
    team.parallel_for(parts * plan.pieces, [&](int task, int) {
        const int i = task / plan.pieces, piece = task % plan.pieces;
        const LinearPart whole = part_of(call, c, i, scratch + i * floats);
        const int panels = whole.panel_end - whole.panel_begin;
        LinearPart some = whole;
        some.panel_begin = whole.panel_begin + part_begin(piece, plan.pieces, panels, 2);
        some.panel_end = whole.panel_begin + part_begin(piece + 1, plan.pieces, panels, 2);
        some.y += (some.panel_begin - whole.panel_begin) * 16;
        if (some.panel_begin < some.panel_end) compute(call, some);
        if (left[static_cast<std::size_t>(i)].fetch_sub(1, std::memory_order_acq_rel) == 1) after(0, whole);
    });
}

// One product: nothing is taken from the heap.
void run_alone(Team& team, const LinearCall& call, float* scratch, FunctionRef<void(int, const LinearPart&)> after) {
    const LinearPlan plan = plan_linear(call, team.size(), static_cast<bool>(after));
    if (plan.pieces > 1) return run_pieces(team, call, plan, scratch, after);
    team.parallel_for(plan.cut.panel_parts * plan.cut.row_parts, [&](int task, int thread) {
        const LinearPart part = part_of(call, plan.cut, task, own(scratch, thread));
        compute(call, part);
        if (after) after(0, part);
    });
}

}  // namespace

void linears(Team& team, std::span<const LinearCall> calls, float* scratch,
             FunctionRef<void(int, const LinearPart&)> after) {
    if (calls.size() == 1) return run_alone(team, calls.front(), scratch, after);
    int tasks = 0;
    const std::vector<Share> parts = shares(calls, team.size(), tasks);
    team.parallel_for(tasks, [&](int task, int thread) {
        const auto found = std::upper_bound(parts.begin(), parts.end(), task,
                                            [](int wanted, const Share& share) { return wanted < share.first; }) -
                           1;
        const auto at = static_cast<std::size_t>(found - parts.begin());
        const LinearPart part = part_of(calls[at], found->cut, task - found->first, own(scratch, thread));
        compute(calls[at], part);
        if (after) after(static_cast<int>(at), part);
    });
}

void linear(Team& team, const LinearCall& call, FunctionRef<void(const LinearPart&)> after) {
    if (!after) return run_alone(team, call, nullptr, nullptr);
    run_alone(team, call, nullptr, [&](int, const LinearPart& part) { after(part); });
}

std::size_t linear_scratch() { return kScratch; }

}  // namespace pygpt
