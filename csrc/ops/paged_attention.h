// Attention of a step's new tokens over their sequences' pages, on a team of threads.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/table.h"

namespace pygpt {

class Team;

// New tokens of one sequence: consecutive rows of the step, at consecutive positions.
struct AttentionSequence {
    int first_row;
    int n_rows;
    int first_position;
    std::span<std::byte* const> pages;  // up to the last new position; null where no new token sees it
};

// What a layer makes of its scores (see AttentionArgs). Slopes and sinks: one for each of the n_head heads, or none.
struct ScoreRule {
    float scale;
    float cap = 0.0f;
    std::span<const float> slopes = {};
    std::span<const float> sinks = {};
};

// Queries of one sequence that share a head of keys and values: (token, query head) pairs first ... first + count - 1,
// token by token.
struct AttentionTask {
    const AttentionSequence* sequence;
    int kv_head;
    int first;
    int count;
    int segment;              // -1: all
    std::ptrdiff_t segments;  // otherwise where in the scratch the first query's lie, the next one's after them
};

// What attention does in one step, the same in all layers whose tokens see equally far. Its memory is used again.
class AttentionPlan {
public:
    struct Shape {
        int n_head;
        int n_kv_head;
        int head_dim;
        int window;           // a token sees itself and window - 1 before it; 0: all before it
        std::size_t scratch;  // floats of it, see AttentionCall
    };
    // The sequences must last as long as the plan is used.
    void make(std::span<const AttentionSequence> sequences, const Shape& shape, int threads);

private:
    friend class LayerAttention;

    void split(int threads);
    void deal(int threads);
    KeyRange range(const AttentionTask& task, int i) const;
    int first_segment(const AttentionTask& task) const;
    int segments(const AttentionTask& task) const;

    Shape shape_{};
    std::vector<AttentionTask> tasks_;   // in the order of the threads' shares
    std::vector<AttentionTask> merges_;  // those that were split
    std::vector<AttentionTask> spare_;
};

// A layer's call. The plan's shape holds for it.
struct AttentionCall {
    int n_head;
    int n_kv_head;
    int head_dim;
    const CacheFormat& cache;
    std::size_t keys;        // bytes from the start of a page to this layer's first head (see PageLayout)
    std::size_t values;
    std::size_t head_bytes;  // from one head to the next
    const float* centers;    // (n_kv_head, head_dim) of the first segment, or null; see AttentionArgs
    std::ptrdiff_t center_stride;
    ScoreRule rule;
    const float* q;  // (rows, n_head * head_dim), row stride ldq
    std::ptrdiff_t ldq;
    float* out;  // (rows, n_head * head_dim), row stride ldout
    std::ptrdiff_t ldout;
    std::span<float> scratch;  // at least attention_scratch(head_dim) for each thread; what is more lets a few heads'
                               // segments be split over the threads (see split_floats)
};

// Floats of scratch, beyond those for each thread, that let every call split its segments where that pays.
std::size_t split_floats(int rows, int n_head, int head_dim, int n_ctx, int threads);

void paged_attention(const Kernels& kernels, Team& team, const AttentionPlan& plan, const AttentionCall& call);

}  // namespace pygpt
