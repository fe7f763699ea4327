// Contract: causal softmax attention of a few queries over one head's pages of keys and values.
#pragma once

#include <cstddef>

#include "base/lanes.h"

namespace pygpt {

constexpr int kPagePositions = 64;                                  // positions that a page holds
constexpr int kSegmentPages = 4;                                    // pages that a step of the softmax takes
constexpr int kSegmentPositions = kSegmentPages * kPagePositions;
constexpr int kMaxAttentionQueries = 96;                            // queries a call can take

// Floats of scratch that a query takes in the form that a format of the cache wants.
constexpr int query_floats(int head_dim) { return round_up(head_dim, 64); }

// Between the weights of two queries: not a multiple of a large power of two, which would crowd a few sets of the
// cache.
constexpr int kWeightStride = kSegmentPositions + 16;

// What is kept of a query's segment beside its value sums: the maximum and the sum of the weights.
constexpr int kSegmentTail = 16;

constexpr int padded_head(int head_dim) { return round_up(head_dim, 16); }

// Floats of one query's result of one segment, see AttentionArgs::segment.
constexpr int segment_floats(int head_dim) { return padded_head(head_dim) + kSegmentTail; }

// The positions that a query sees: begin ... end - 1, of which the last is its own.
struct KeyRange {
    int begin, end;
};

// Softmax by segments of kSegmentPositions positions from position 0. A score is, where they are given, capped and
// biased: cap * tanh(score / cap) (Gemma 2, arXiv:2408.00118), + slope * (key's position - query's) (ALiBi,
// arXiv:2108.12409). A segment has its own maximum; its weights exp(score - maximum) are added 16 by 16, then by the
// lanes' tree; its values are added page by page. Segments are merged in order (Milakov and Gimelshein 2018,
// arXiv:1805.02867), last of all the query's sink: a score that takes its share of the weights and has no value
// (gpt-oss, arXiv:2508.10925). Keys outside of a query's range weigh exactly 0, and a segment without any other is
// nothing in the merge, so a query's result depends neither on the other queries of the call nor on which segments
// without a visible key were read.
//
// In a cache of floating-point numbers a score is one chain of fused multiply-adds over the head's dimensions of
// query * scale and key, and a page's values are one chain over its keys from zero.
//
// In a cache of int8 the query is rotated as the keys were (the matrices times what the keys' lack to their inverses)
// and rounded to integers of up to query_levels, with one scale, which contains `scale`: a score is fma(float(sum of
// products) * the key's scale, the query's, what the segment's center gives). A page's weights are multiplied by the
// scales of its values and rounded to integers of up to kWeightLevels, with one scale; its sums of products are added
// by fma(float(sum), scale, what was before it). The sums themselves are exact: they fit into 32 bits. A segment's sums
// of values are turned back, by the query's rotation, before they are merged. A query that is not finite has a result
// of NaN.
struct AttentionArgs {
    const float* const* queries;  // n_queries pointers to (head_dim,)
    float* const* outputs;        // n_queries pointers to (head_dim,)
    const KeyRange* ranges;       // of each query
    int n_queries;                // at most kMaxAttentionQueries
    int head_dim;
    float scale;
    float cap;                    // of scores; 0: none
    const float* slopes;          // of each query, or null
    const float* sinks;           // of each query, or null; for whoever merges, where a segment alone is computed
    const std::byte* const* pages;  // by index from position 0; those before all ranges are not looked at
    std::size_t keys;    // bytes from the start of a page to the head's keys (see kernels/cache_format.h)
    std::size_t values;  // and to its values
    const float* centers;  // (segments, head_dim) of a format that is centered, or null: what was taken off the keys
    std::ptrdiff_t center_stride;  // from a segment's to the next one's
    int segment;         // -1: all of them; otherwise outputs point to segment_floats() floats, for attention_merge
    float* scratch;      // attention_scratch(head_dim) floats, aligned to a cache line
};

// Up to so much a query is rounded to: two signed digits of 128, less where the sum of products would not fit.
constexpr int query_levels(int head_dim) {
    const int most = 0x7fffffff / 127 / padded_head(head_dim);
    return most < 127 * 128 ? most : 127 * 128;
}
constexpr int kWeightLevels = 127 * 256;  // two digits of 256

// Merges one query's segments into what a call of all of them would have given.
struct AttentionMergeArgs {
    float* segments;    // (n_segments, segment_floats(head_dim)); overwritten
    int n_segments;
    int head_dim;
    const float* sink;  // or null
    float* output;      // (head_dim,)
};

constexpr std::size_t attention_scratch(int head_dim) {
    const auto padded = static_cast<std::size_t>(padded_head(head_dim));
    return kMaxAttentionQueries * (static_cast<std::size_t>(query_floats(head_dim)) + 2 * padded + kWeightStride) +
           kPagePositions * padded;
}

}  // namespace pygpt
