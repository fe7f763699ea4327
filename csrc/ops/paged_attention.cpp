#include "ops/paged_attention.h"

#include <algorithm>
#include <vector>

#include "base/lanes.h"
#include "threads/parallel.h"

namespace pygpt {

namespace {

// Where there are fewer than this many tasks a thread, it matters that the last of them end together.
constexpr int kBalancedTasks = 4;
// Tasks of more queries than this are not split: their segments' results would be large, and they are many anyway.
constexpr int kSplitQueries = 12;

// Queries of one sequence that share a head of keys and values: (token, query head) pairs first ... first + count - 1,
// token by token.
struct Task {
    const AttentionSequence* sequence;
    int kv_head;
    int first;
    int count;
    int segment;      // -1: all
    float* segments;  // of the first query, otherwise; the next query's lie after them
};

int segments_of(int positions) { return ceil_div(positions, kSegmentPositions); }

class Plan {
public:
    Plan(const AttentionCall& call, int threads) : call_(call), group_(call.n_head / call.n_kv_head) {
        per_thread_ = attention_scratch(call.head_dim);
        spare_ = call.scratch.subspan(static_cast<std::size_t>(threads) * per_thread_);
        // Later tokens see more keys: their tasks come first, so that the threads finish together.
        for (const AttentionSequence& s : call.sequences) {
            const int queries = s.n_rows * group_;
            for (int end = queries; end > 0; end -= kMaxAttentionQueries) {
                const int first = std::max(0, end - kMaxAttentionQueries);
                for (int head = 0; head < call.n_kv_head; ++head) {
                    tasks.push_back({&s, head, first, end - first, -1, nullptr});
                }
            }
        }
        const int n = static_cast<int>(tasks.size());
        if (threads > 1 && n % threads != 0 && n < kBalancedTasks * threads) split();
    }

    // One query's segments become its output.
    void merge(const Kernels& kernels) const {
        for (const Task& task : merges_) {
            const int n = segments(task);
            for (int i = 0; i < task.count; ++i) {
                float* const from = task.segments + static_cast<std::ptrdiff_t>(i) * n * segment_floats(call_.head_dim);
                kernels.attention_merge({from, n, call_.head_dim, of_head(call_.rule.sinks, task, i), output(task, i)});
            }
        }
    }

    void run(const Task& task, int thread) const {
        const AttentionSequence& s = *task.sequence;
        const float* queries[kMaxAttentionQueries];
        float* outputs[kMaxAttentionQueries];
        KeyRange ranges[kMaxAttentionQueries];
        float slopes[kMaxAttentionQueries], sinks[kMaxAttentionQueries];
        const ScoreRule& rule = call_.rule;
        const int all = task.segment < 0 ? 0 : segments(task);
        for (int i = 0; i < task.count; ++i) {
            queries[i] = call_.q + row(task, i) * call_.ldq + head(task, i) * call_.head_dim;
            outputs[i] =
                task.segment < 0
                    ? output(task, i)
                    : task.segments + static_cast<std::ptrdiff_t>(i * all + task.segment - first_segment(task)) *
                                          segment_floats(call_.head_dim);
            ranges[i] = range(task, i);
            if (!rule.slopes.empty()) slopes[i] = *of_head(rule.slopes, task, i);
            if (!rule.sinks.empty()) sinks[i] = *of_head(rule.sinks, task, i);
        }
        const std::size_t head = static_cast<std::size_t>(task.kv_head) * call_.head_bytes;
        const AttentionArgs args{queries,
                                 outputs,
                                 ranges,
                                 task.count,
                                 call_.head_dim,
                                 rule.scale,
                                 rule.cap,
                                 rule.slopes.empty() ? nullptr : slopes,
                                 rule.sinks.empty() ? nullptr : sinks,
                                 s.pages.data(),
                                 call_.keys + head,
                                 call_.values + head,
                                 call_.centers == nullptr ? nullptr : call_.centers + task.kv_head * call_.head_dim,
                                 call_.center_stride,
                                 task.segment,
                                 call_.scratch.data() + static_cast<std::size_t>(thread) * per_thread_};
        call_.cache.attention(args);
    }

    std::vector<Task> tasks;

private:
    std::ptrdiff_t row(const Task& t, int i) const { return t.sequence->first_row + (t.first + i) / group_; }
    std::ptrdiff_t head(const Task& t, int i) const { return t.kv_head * group_ + (t.first + i) % group_; }
    KeyRange range(const Task& t, int i) const {
        const int end = t.sequence->first_position + (t.first + i) / group_ + 1;
        return {call_.rule.window > 0 ? std::max(0, end - call_.rule.window) : 0, end};
    }
    // The value that a query's head has in a list of the rule, or null.
    const float* of_head(std::span<const float> list, const Task& t, int i) const {
        return list.empty() ? nullptr : list.data() + head(t, i);
    }
    float* output(const Task& t, int i) const {
        return call_.out + row(t, i) * call_.ldout + head(t, i) * call_.head_dim;
    }
    // The segments that a task reads: the first query's range begins first, the last one's ends last.
    int first_segment(const Task& t) const { return range(t, 0).begin / kSegmentPositions; }
    int segments(const Task& t) const { return segments_of(range(t, t.count - 1).end) - first_segment(t); }

    // A task for each segment instead of one for all, where its results fit into the spare scratch.
    void split() {
        std::vector<Task> parts;
        std::size_t used = 0;
        for (Task task : tasks) {
            const int n = segments(task);
            const std::size_t need = static_cast<std::size_t>(task.count) * static_cast<std::size_t>(n) *
                                     static_cast<std::size_t>(segment_floats(call_.head_dim));
            if (n > 1 && task.count <= kSplitQueries && used + need <= spare_.size()) {
                task.segments = spare_.data() + used;
                used += need;
                merges_.push_back(task);
                const int first = first_segment(task);
                for (task.segment = first; task.segment < first + n; ++task.segment) parts.push_back(task);
            } else {
                parts.push_back(task);
            }
        }
        tasks = std::move(parts);
    }

    const AttentionCall& call_;
    const int group_;
    std::size_t per_thread_;
    std::span<float> spare_;
    std::vector<Task> merges_;  // the tasks that were split
};

}  // namespace

std::size_t split_floats(int rows, int n_head, int head_dim, int n_ctx, int threads) {
    if (threads == 1) return 0;
    const int queries = std::min(rows * n_head, kBalancedTasks * threads * kSplitQueries);
    return static_cast<std::size_t>(queries) * static_cast<std::size_t>(segments_of(n_ctx)) *
           static_cast<std::size_t>(segment_floats(head_dim));
}

void paged_attention(const Kernels& kernels, Team& team, const AttentionCall& call) {
    const Plan plan(call, team.size());
    team.parallel_for(static_cast<int>(plan.tasks.size()),
                      [&](int i, int thread) { plan.run(plan.tasks[static_cast<std::size_t>(i)], thread); });
    plan.merge(kernels);
}

}  // namespace pygpt
