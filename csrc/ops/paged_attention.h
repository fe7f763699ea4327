// Attention of a step's new tokens over their sequences' pages, on a team of threads.
#pragma once

#include <cstddef>
#include <span>

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
    int window = 0;  // a token sees itself and window - 1 before it; 0: all before it
    float cap = 0.0f;
    std::span<const float> slopes = {};
    std::span<const float> sinks = {};
};

struct AttentionCall {
    std::span<const AttentionSequence> sequences;
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

void paged_attention(const Kernels& kernels, Team& team, const AttentionCall& call);

}  // namespace pygpt
