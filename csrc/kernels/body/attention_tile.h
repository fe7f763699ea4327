// The register tile of attention: a few queries times the keys or the values of a few pages.
#pragma once

#include <cstddef>

#include "kernels/body/attention.h"

namespace pygpt {
namespace {

// Pages that a tile of `rows` rows reads side by side (as many streams hide the latency of the memory), and blocks of
// 16 columns that it takes at once: as many sums as registers allow. Half of a page's columns at a time would leave
// every other cache line for later: one whole page is read faster than two halves.
template <class S, int rows>
constexpr int attention_pages() {
    if constexpr (S::kRegisters >= 32) return rows <= 1 ? 4 : rows <= 3 ? 2 : 1;
    return 1;
}

template <class S, int rows>
constexpr int attention_blocks() {
    if constexpr (S::kRegisters >= 32) return 4;
    if constexpr (S::kRegisters >= 8) return rows <= 1 ? 4 : rows <= 3 ? 2 : 1;
    return 1;
}

// For each page p and its block of rows b[p], sum(row, p, j) is the chain over i = 0 ... k - 1 from zero of
// a[row][p * a_page + i] * b[p][i][j]. With `add_pages` c[row][j] (if `add`, otherwise nothing) + sum(row, 0, j) +
// sum(row, 1, j) + ... goes to c[row][j]; without, sum(row, p, j) goes to c[row][p * 64 + j].
template <class T>
struct AttentionProduct {
    const float* a;
    std::ptrdiff_t lda;
    std::ptrdiff_t a_page;
    int k;
    const T* const* b;
    std::ptrdiff_t ldb;
    const T* const* next;  // what will be read after each b[p], once all n_pages of them are
    int n_pages;
    float* c;
    std::ptrdiff_t ldc;
    bool add;
};

// One row and block of the result: the sums of the pages one after the other, or added in order (to what is there).
template <class S, bool add_pages, class V, int pages, int blocks>
inline __attribute__((always_inline)) void store_sums(const V (&sums)[pages][blocks], int block, bool add, float* to) {
    if constexpr (add_pages) {
        V sum = sums[0][block];
        if (add) sum = S::add(S::load(to), sum);
#pragma GCC unroll 16
        for (int p = 1; p < pages; ++p) sum = S::add(sum, sums[p][block]);
        S::store(to, sum);
    } else {
#pragma GCC unroll 16
        for (int p = 0; p < pages; ++p) S::store(to + p * kPagePositions, sums[p][block]);
    }
}

template <class S, bool add_pages, bool fetch, int rows, int pages, int blocks, class T>
inline __attribute__((always_inline)) void attention_tile(const AttentionProduct<T>& m, int first) {
    using V = typename S::F32;
    V acc[rows][pages][blocks];
    const T* b[pages];
    const T* ahead[pages];
    const std::ptrdiff_t ldb = m.ldb, lda = m.lda, a_page = m.a_page;
    const int distance = fetch ? static_cast<int>(kFetchBytes<S> / (ldb * static_cast<std::ptrdiff_t>(sizeof(T)))) : 0;
    const int turn = m.k > distance ? m.k - distance : 0;
#pragma GCC unroll 16
    for (int p = 0; p < pages; ++p) {
        b[p] = m.b[p] + first * 16;
        if constexpr (fetch) ahead[p] = b[p] + distance * ldb;
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
            for (int j = 0; j < blocks; ++j) acc[r][p][j] = S::zero();
        }
    }
    const float* a = m.a;
    std::ptrdiff_t at = 0;
    for (int i = 0, end = turn;;) {
        for (; i < end; ++i, at += ldb) {
#pragma GCC unroll 16
            for (int p = 0; p < pages; ++p) {
                V w[blocks];
#pragma GCC unroll 16
                for (int j = 0; j < blocks; ++j) {
                    if (fetch && j * 16 * static_cast<int>(sizeof(T)) % 64 == 0)
                        __builtin_prefetch(ahead[p] + at + j * 16);
                    w[j] = S::load(b[p] + at + j * 16);
                }
#pragma GCC unroll 16
                for (int r = 0; r < rows; ++r) {
                    const V x = S::set1(a[r * lda + (add_pages ? p * a_page : 0) + i]);
#pragma GCC unroll 16
                    for (int j = 0; j < blocks; ++j) acc[r][p][j] = S::fma(x, w[j], acc[r][p][j]);
                }
            }
        }
        if (i == m.k) break;
        end = m.k;
        if constexpr (fetch) {
#pragma GCC unroll 16
            for (int p = 0; p < pages; ++p) ahead[p] = read_after(m.b, m.next, m.n_pages, p, pages) + first * 16 - at;
        }
    }
    float* const c = m.c + first * 16;
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
        for (int j = 0; j < blocks; ++j) store_sums<S, add_pages>(acc[r], j, m.add, c + r * m.ldc + j * 16);
    }
}

// The blocks first ... n_blocks - 1, as wide as possible first.
template <class S, bool add_pages, bool fetch, int rows, int pages, int width, class T>
inline void attention_blocks_of(const AttentionProduct<T>& m, int first, int n_blocks) {
    for (; first + width <= n_blocks; first += width) {
        attention_tile<S, add_pages, fetch, rows, pages, width>(m, first);
    }
    if constexpr (width > 1) {
        if (first < n_blocks) attention_blocks_of<S, add_pages, fetch, rows, pages, width / 2>(m, first, n_blocks);
    }
}

// The product of `n_rows` rows, at most `rows`, with the first pages of m: returns how many it took.
template <class S, bool add_pages, bool fetch, int rows = kAttentionRows, class T>
inline int attention_product(const AttentionProduct<T>& m, int n_rows, int n_blocks) {
    if constexpr (rows > 1) {
        if (n_rows < rows) return attention_product<S, add_pages, fetch, rows - 1>(m, n_rows, n_blocks);
    }
    constexpr int most = fetch ? attention_pages<S, rows>() : 1;
    if constexpr (most >= 4) {
        if (m.n_pages >= 4) {
            attention_blocks_of<S, add_pages, fetch, rows, 4, attention_blocks<S, rows>()>(m, 0, n_blocks);
            return 4;
        }
    }
    if constexpr (most >= 2) {
        if (m.n_pages >= 2) {
            attention_blocks_of<S, add_pages, fetch, rows, 2, attention_blocks<S, rows>()>(m, 0, n_blocks);
            return 2;
        }
    }
    attention_blocks_of<S, add_pages, fetch, rows, 1, attention_blocks<S, rows>()>(m, 0, n_blocks);
    return 1;
}

}  // namespace
}  // namespace pygpt
