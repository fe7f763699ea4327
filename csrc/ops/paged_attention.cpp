#include "ops/paged_attention.h"

#include <algorithm>

#include "base/lanes.h"
#include "threads/parallel.h"

namespace pygpt {

namespace {

// Where there are fewer than this many tasks a thread, it matters that the last of them end together.
constexpr int kBalancedTasks = 4;
// Tasks of more queries than this are not split: their segments' results would be large, and they are many anyway.
constexpr int kSplitQueries = 12;

int segments_of(int positions) { return ceil_div(positions, kSegmentPositions); }

}  // namespace

void AttentionPlan::make(std::span<const AttentionSequence> sequences, const Shape& shape, int threads) {
    shape_ = shape;
    tasks_.clear();
    merges_.clear();
    const int group = shape.n_head / shape.n_kv_head;
    bool differ = false;
    // Later tokens see more keys: their tasks come first, so that the threads finish together.
    for (const AttentionSequence& s : sequences) {
        const int queries = s.n_rows * group;
        differ |= queries > kMaxAttentionQueries;
        for (int end = queries; end > 0; end -= kMaxAttentionQueries) {
            const int first = std::max(0, end - kMaxAttentionQueries);
            for (int head = 0; head < shape.n_kv_head; ++head) tasks_.push_back({&s, head, first, end - first, -1, 0});
        }
    }
    const int n = static_cast<int>(tasks_.size());
    if (threads > 1 && n % threads != 0 && n < kBalancedTasks * threads) split(threads);
    if (threads > 1 && differ) deal(threads);
}

// A task for each segment instead of one for all, where its results fit into the scratch that the threads leave.
void AttentionPlan::split(int threads) {
    spare_.clear();
    const auto floats = static_cast<std::size_t>(segment_floats(shape_.head_dim));
    std::size_t used = static_cast<std::size_t>(threads) * attention_scratch(shape_.head_dim);
    for (AttentionTask task : tasks_) {
        const int n = segments(task);
        const std::size_t need = static_cast<std::size_t>(task.count) * static_cast<std::size_t>(n) * floats;
        if (n > 1 && task.count <= kSplitQueries && used + need <= shape_.scratch) {
            task.segments = static_cast<std::ptrdiff_t>(used);
            used += need;
            merges_.push_back(task);
            const int first = first_segment(task);
            for (task.segment = first; task.segment < first + n; ++task.segment) spare_.push_back(task);
        } else {
            spare_.push_back(task);
        }
    }
    tasks_.swap(spare_);
}

// Threads begin with tasks that lie side by side (see Team): each is dealt one of the most expensive, then one of the
// next, and so on.
void AttentionPlan::deal(int threads) {
    const int n = static_cast<int>(tasks_.size());
    spare_.assign(tasks_.begin(), tasks_.end());
    auto next = spare_.begin();
    for (int turn = 0; next != spare_.end(); ++turn) {
        for (int thread = 0; thread < threads; ++thread) {
            const int at = part_begin(thread, threads, n) + turn;
            if (at < part_begin(thread + 1, threads, n)) tasks_[static_cast<std::size_t>(at)] = *next++;
        }
    }
}

KeyRange AttentionPlan::range(const AttentionTask& t, int i) const {
    const int end = t.sequence->first_position + (t.first + i) / (shape_.n_head / shape_.n_kv_head) + 1;
    return {shape_.window > 0 ? std::max(0, end - shape_.window) : 0, end};
}

// The segments that a task reads: the first query's range begins first, the last one's ends last.
int AttentionPlan::first_segment(const AttentionTask& t) const { return range(t, 0).begin / kSegmentPositions; }
int AttentionPlan::segments(const AttentionTask& t) const {
    return segments_of(range(t, t.count - 1).end) - first_segment(t);
}

class LayerAttention {
public:
    LayerAttention(const AttentionPlan& plan, const AttentionCall& call)
        : plan_(plan), call_(call), group_(call.n_head / call.n_kv_head) {}

    // One query's segments become its output.
    void merge(const Kernels& kernels) const {
        for (const AttentionTask& task : plan_.merges_) {
            const int n = plan_.segments(task);
            for (int i = 0; i < task.count; ++i) {
                float* const from = results(task) + static_cast<std::ptrdiff_t>(i) * n * segment_floats(call_.head_dim);
                kernels.attention_merge({from, n, call_.head_dim, of_head(call_.rule.sinks, task, i), output(task, i)});
            }
        }
    }

    int tasks() const { return static_cast<int>(plan_.tasks_.size()); }

    void run(int at, int thread) const {
        const AttentionTask& task = plan_.tasks_[static_cast<std::size_t>(at)];
        const float* queries[kMaxAttentionQueries];
        float* outputs[kMaxAttentionQueries];
        KeyRange ranges[kMaxAttentionQueries];
        float slopes[kMaxAttentionQueries], sinks[kMaxAttentionQueries];
        const ScoreRule& rule = call_.rule;
        const int all = task.segment < 0 ? 0 : plan_.segments(task), first = plan_.first_segment(task);
        for (int i = 0; i < task.count; ++i) {
            queries[i] = call_.q + row(task, i) * call_.ldq + head(task, i) * call_.head_dim;
            outputs[i] = task.segment < 0
                             ? output(task, i)
                             : results(task) + static_cast<std::ptrdiff_t>(i * all + task.segment - first) *
                                                   segment_floats(call_.head_dim);
            ranges[i] = plan_.range(task, i);
            if (!rule.slopes.empty()) slopes[i] = *of_head(rule.slopes, task, i);
            if (!rule.sinks.empty()) sinks[i] = *of_head(rule.sinks, task, i);
        }
        const std::size_t of_kv_head = static_cast<std::size_t>(task.kv_head) * call_.head_bytes;
        const AttentionArgs args{
            queries,
            outputs,
            ranges,
            task.count,
            call_.head_dim,
            rule.scale,
            rule.cap,
            rule.slopes.empty() ? nullptr : slopes,
            rule.sinks.empty() ? nullptr : sinks,
            task.sequence->pages.data(),
            call_.keys + of_kv_head,
            call_.values + of_kv_head,
            call_.centers == nullptr ? nullptr : call_.centers + task.kv_head * call_.head_dim,
            call_.center_stride,
            task.segment,
            call_.scratch.data() + static_cast<std::size_t>(thread) * attention_scratch(call_.head_dim)};
        call_.cache.attention(args);
    }

private:
    std::ptrdiff_t row(const AttentionTask& t, int i) const { return t.sequence->first_row + (t.first + i) / group_; }
    std::ptrdiff_t head(const AttentionTask& t, int i) const { return t.kv_head * group_ + (t.first + i) % group_; }
    // The value that a query's head has in a list of the rule, or null.
    const float* of_head(std::span<const float> list, const AttentionTask& t, int i) const {
        return list.empty() ? nullptr : list.data() + head(t, i);
    }
    float* output(const AttentionTask& t, int i) const {
        return call_.out + row(t, i) * call_.ldout + head(t, i) * call_.head_dim;
    }
    float* results(const AttentionTask& t) const { return call_.scratch.data() + t.segments; }

    const AttentionPlan& plan_;
    const AttentionCall& call_;
    const int group_;
};

std::size_t split_floats(int rows, int n_head, int head_dim, int n_ctx, int threads) {
    if (threads == 1) return 0;
    const int queries = std::min(rows * n_head, kBalancedTasks * threads * kSplitQueries);
    return static_cast<std::size_t>(queries) * static_cast<std::size_t>(segments_of(n_ctx)) *
           static_cast<std::size_t>(segment_floats(head_dim));
}

void paged_attention(const Kernels& kernels, Team& team, const AttentionPlan& plan, const AttentionCall& call) {
    const LayerAttention layer(plan, call);
    team.parallel_for(layer.tasks(), [&](int at, int thread) { layer.run(at, thread); });
    layer.merge(kernels);
}

}  // namespace pygpt
