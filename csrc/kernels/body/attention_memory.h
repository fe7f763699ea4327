// What the parts of a call of attention share.
#pragma once

#include "base/lanes.h"
#include "kernels/attention.h"

namespace pygpt {
namespace {

// The caller's scratch.
struct AttentionMemory {
    explicit AttentionMemory(const AttentionArgs& a) : padded(padded_head(a.head_dim)), queries(a.scratch) {}

    static constexpr std::ptrdiff_t kMost = kMaxAttentionQueries;
    const int padded;
    float* const queries;  // kMost times query_floats(head_dim), in the form that the cache's format wants
    float* const sums = queries + kMost * query_floats(padded);     // (queries, padded), all segments so far
    float* const segment_sums = sums + kMost * padded;              // (queries, padded), of this segment
    float* const weights = segment_sums + kMost * padded;           // (queries, kWeightStride): scores, then weights
    float* const wide = weights + kMost * kWeightStride;            // a page's keys or values as float32
};

// Some queries of a call, from ... to - 1, and a few pages of a segment that they read.
struct AttentionTile {
    int from, to;
    int slot;     // where in the segment the first page begins
    int n_pages;  // read side by side; more than one only if all of them are seen to the end
    int seen;     // positions of the last one up to which a query looks

    int rows() const { return to - from; }
    float* weights(const AttentionMemory& memory) const { return memory.weights + from * kWeightStride + slot; }
};

// What is read after page p by a tile of `pages` of the n_pages pages b: one of them, or once all are read of `next`.
template <class T>
inline const T* read_after(const T* const* b, const T* const* next, int n_pages, int p, int pages) {
    return p + pages < n_pages ? b[p + pages] : next[p + pages - n_pages];
}

}  // namespace
}  // namespace pygpt
