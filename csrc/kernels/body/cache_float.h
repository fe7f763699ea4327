// Keys and values as floating-point numbers: how they are stored and multiplied.
#pragma once

#include <type_traits>

#include "kernels/body/attention.h"
#include "kernels/body/attention_tile.h"
#include "kernels/body/rows.h"
#include "kernels/cache_format.h"

namespace pygpt {
namespace {

template <class S>
inline void convert(const float* x, float* y, int n) {
    for (int i = 0; i < n; ++i) y[i] = x[i];
}
template <class S>
inline void convert(const float* x, Half* y, int n) {
    to_f16<S>(x, y, n);
}

// Keys turn from rows to columns in blocks that fit into the first-level cache.
template <class S, class T>
void store_floats(const StoreArgs& a) {
    constexpr int kRows = 16, kDims = 64;
    T* const keys = reinterpret_cast<T*>(a.to_keys) + a.slot;
    T* const values = reinterpret_cast<T*>(a.to_values) + a.slot * static_cast<std::ptrdiff_t>(padded_head(a.head_dim));
    T block[kRows][kDims];
    for (int from = 0; from < a.rows; from += kRows) {
        const int rows = a.rows - from < kRows ? a.rows - from : kRows;
        for (int first = 0; first < a.head_dim; first += kDims) {
            const int dims = a.head_dim - first < kDims ? a.head_dim - first : kDims;
            for (int row = 0; row < rows; ++row) convert<S>(a.keys + (from + row) * a.ld + first, block[row], dims);
            for (int d = 0; d < dims; ++d) {
                for (int row = 0; row < rows; ++row) keys[(first + d) * kPagePositions + from + row] = block[row][d];
            }
        }
    }
    for (int row = 0; row < a.rows; ++row) {
        convert<S>(a.values + row * a.ld, values + row * padded_head(a.head_dim), a.head_dim);
    }
}

// Scores are chains over the head's dimensions of scaled queries and keys; values chains over the keys of each page.
template <class S, class T>
class FloatCache {
public:
    using Element = T;
    using Opened = float;
    static constexpr int kRows = kAttentionRows, kFew = kFewQueries;

    FloatCache(const AttentionArgs& a, const AttentionMemory& memory) : a_(a), memory_(memory) {}

    void read_query(int i) const {
        float* const q = memory_.queries + i * memory_.padded;
        for (int d = 0; d < a_.head_dim; ++d) q[d] = a_.queries[i][d] * a_.scale;
    }

    // A page's keys or values for several tiles: as float32.
    const float* opened(const T* from) const {
        if constexpr (std::is_same_v<T, float>) {
            return from;
        } else {
            for (int i = 0; i < kPagePositions * memory_.padded; i += 16) S::store(memory_.wide + i, S::load(from + i));
            return memory_.wide;
        }
    }

    template <bool fetch, class B>
    void scores(const AttentionTile& t, const B* const* b, const B* const* next) const {
        for (int page = 0; page < t.n_pages;) {
            const AttentionProduct<B> product{queries(t),
                                              memory_.padded,
                                              0,
                                              a_.head_dim,
                                              b + page,
                                              kPagePositions,
                                              next,
                                              t.n_pages - page,
                                              t.weights(memory_) + page * kPagePositions,
                                              kWeightStride,
                                              false};
            page += attention_product<S, false, fetch>(product, t.rows(), ceil_div(t.seen, 16));
        }
    }

    // Adds to the tile's rows of `sums`; without `add` they start from nothing.
    template <bool fetch, class B>
    void add_values(const AttentionTile& t, const B* const* b, const B* const* next, float* sums, bool add) const {
        for (int page = 0; page < t.n_pages;) {
            const AttentionProduct<B> product{t.weights(memory_) + page * kPagePositions,
                                              kWeightStride,
                                              kPagePositions,
                                              t.seen,
                                              b + page,
                                              memory_.padded,
                                              next,
                                              t.n_pages - page,
                                              sums + t.from * memory_.padded,
                                              memory_.padded,
                                              add || page > 0};
            page += attention_product<S, true, fetch>(product, t.rows(), memory_.padded / 16);
        }
    }

    void begin_segment(int) const {}
    void turn_back(float*) const {}

private:
    const float* queries(const AttentionTile& t) const { return memory_.queries + t.from * memory_.padded; }

    const AttentionArgs& a_;
    const AttentionMemory& memory_;
};

template <class S, class T>
constexpr CacheFormat float_cache(const char* name, DType dtype) {
    return {name, dtype, 0, 0, false, store_floats<S, T>, attention<S, FloatCache<S, T>>};
}

}  // namespace
}  // namespace pygpt
