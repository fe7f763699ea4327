// Contract: causal softmax attention of a few queries over one head's pages of keys and values.
#pragma once

#include <cstddef>

namespace pygpt {

constexpr int kPagePositions = 64;       // positions a page holds, and a step of the softmax
constexpr int kMaxAttentionQueries = 12;  // queries a call can take

// Online softmax (Milakov and Gimelshein 2018, arXiv:1805.02867), page by page from position 0. A score is one chain of
// fused multiply-adds over the head's dimensions, then times `scale`; a value sum is one chain over the keys,
// multiplied by exp(old maximum - new maximum) before each page. Keys at and after a query's limit weigh exactly 0, so
// a query's result does not depend on the other queries of the call.
struct AttentionArgs {
    const float* const* queries;  // n_queries pointers to (head_dim,)
    float* const* outputs;  // n_queries pointers to (head_dim,)
    const int* limits;  // query i sees the positions 0 ... limits[i] - 1; at least 1
    int n_queries;  // at most kMaxAttentionQueries
    int head_dim;
    float scale;
    const void* const* key_pages;  // each [4][head_dim][16]: 4 blocks of 16 positions, transposed
    const void* const* value_pages;  // each [ceil(head_dim / 16)][64][16]
    float* scratch;  // attention_scratch(head_dim) floats
};

constexpr int padded_head(int head_dim) { return (head_dim + 15) / 16 * 16; }

constexpr std::size_t attention_scratch(int head_dim) {
    return static_cast<std::size_t>(kMaxAttentionQueries) *
           static_cast<std::size_t>(2 * padded_head(head_dim) + kPagePositions);
}

}  // namespace pygpt
