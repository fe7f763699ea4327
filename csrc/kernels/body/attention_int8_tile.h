// The register tile of attention in int8: a few rows of integers times the keys or the values of a few pages.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/body/attention_memory.h"

namespace pygpt {
namespace {

// Integers lie in rows of 64, as the instruction set's products P want them, P::kRowBytes each.
constexpr int kRowNumbers = 64;

// For each page p and its columns c of b[p], [n / 4][columns][4], sum(row, p, c) is that of the products of the row's
// first n integers with them; `done`(row, p, column, 16 sums as floats) gets it.
struct Int8Product {
    const std::byte* rows;       // [page][n / 64][rows]: rows of integers
    std::ptrdiff_t page;         // bytes from a page's rows to the next one's; 0: all pages' are the same
    std::ptrdiff_t chunk;        // from 64 integers of all rows to the next
    const std::int32_t* totals;  // of the integers of each row
    int n;
    const std::int8_t* const* b;
    int columns;
    const std::int8_t* const* next;  // what will be read after each b[p], once all n_pages of them are
    int n_pages;
};

template <class P, int rows>
constexpr int int8_attention_pages() {
    return rows * P::kVectors * 4 <= P::kSums / 4 ? 4 : rows * P::kVectors * 2 <= P::kSums / 2 ? 2 : 1;
}
template <class P, int rows, int pages>
constexpr int int8_attention_blocks() {
    constexpr int left = P::kSums / (rows * P::kVectors * pages);
    return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

// A function of its own, so that the sums stay in registers. Leaves them at `to`, [rows][pages][blocks][16]: so keys
// and values have the same tiles, and what is done with a sum is not in them as often as they have sums.
template <class S, class P, int fetch, int rows, int pages, int blocks>
__attribute__((noinline)) void int8_attention_tile(const Int8Product& m, int row, int page, int block, float* to) {
    typename P::Sums sums[rows][pages][blocks];
    const std::int8_t* b[pages];
    const std::int8_t* ahead[pages];
#pragma GCC unroll 16
    for (int p = 0; p < pages; ++p) {
        b[p] = m.b[page + p] + block * 64;
        if constexpr (fetch > 0) ahead[p] = b[p] + fetch;
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
            for (int j = 0; j < blocks; ++j) sums[r][p][j] = P::start(m.totals[row + r]);
        }
    }
    const std::byte* x = m.rows + page * m.page + row * P::kRowBytes;
    const std::ptrdiff_t step = m.columns * 4, page_rows = m.page, chunk = m.chunk;
    const int turn = fetch > 0 ? m.n - fetch / m.columns : 0;
    std::ptrdiff_t at = 0;
    for (int i = 0; i < m.n; i += 4, at += step) {
        if constexpr (fetch > 0) {
            if (i == (turn < 0 ? 0 : turn) / 4 * 4) {
#pragma GCC unroll 16
                for (int p = 0; p < pages; ++p)
                    ahead[p] = read_after(m.b, m.next, m.n_pages, page + p, pages) + block * 64 - at;
            }
        }
        const std::byte* const numbers = x + i / kRowNumbers * chunk;
        const int place = i % kRowNumbers;
#pragma GCC unroll 16
        for (int p = 0; p < pages; ++p) {
#pragma GCC unroll 16
            for (int j = 0; j < blocks; ++j) {
                if constexpr (fetch > 0) __builtin_prefetch(ahead[p] + at + j * 64);
                const auto w = P::load(b[p] + at + j * 64);
#pragma GCC unroll 16
                for (int r = 0; r < rows; ++r)
                    P::add(sums[r][p][j], w, numbers + p * page_rows + r * P::kRowBytes, place);
            }
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
        for (int p = 0; p < pages; ++p) {
#pragma GCC unroll 16
            for (int j = 0; j < blocks; ++j, to += 16) S::store(to, P::total(sums[r][p][j]));
        }
    }
}

// All blocks from `block` on, as wide as possible first.
template <class S, class P, int fetch, int rows, int pages, int width, class F>
inline void int8_attention_blocks_of(const Int8Product& m, int row, int page, int block, int n_blocks, F done) {
    for (; block + width <= n_blocks; block += width) {
        alignas(64) float sums[rows * pages * width * 16];
        int8_attention_tile<S, P, fetch, rows, pages, width>(m, row, page, block, sums);
        const float* sum = sums;
#pragma GCC unroll 1
        for (int r = row; r < row + rows; ++r) {
#pragma GCC unroll 1
            for (int p = page; p < page + pages; ++p) {
#pragma GCC unroll 1
                for (int j = block; j < block + width; ++j, sum += 16) done(r, p, j * 16, S::load(sum));
            }
        }
    }
    if constexpr (width > 1) {
        if (block < n_blocks)
            int8_attention_blocks_of<S, P, fetch, rows, pages, width / 2>(m, row, page, block, n_blocks, done);
    }
}

template <class S, class P, int fetch, int rows, int pages, class F>
inline void int8_attention_pages_of(const Int8Product& m, int row, int page, int n_blocks, F done) {
    for (; page + pages <= m.n_pages; page += pages) {
        int8_attention_blocks_of<S, P, fetch, rows, pages, int8_attention_blocks<P, rows, pages>()>(m, row, page, 0,
                                                                                                    n_blocks, done);
    }
    if constexpr (pages > 1) {
        if (page < m.n_pages) int8_attention_pages_of<S, P, fetch, rows, pages / 2>(m, row, page, n_blocks, done);
    }
}

template <class S, class P, int fetch, int rows, class F>
inline void int8_attention_rows_of(const Int8Product& m, int row, int n_rows, int n_blocks, F done) {
    if (n_rows == rows) {
        constexpr int pages = fetch > 0 ? int8_attention_pages<P, rows>() : 1;
        int8_attention_pages_of<S, P, fetch, rows, pages>(m, row, 0, n_blocks, done);
    } else if constexpr (rows > 1) {
        int8_attention_rows_of<S, P, fetch, rows - 1>(m, row, n_rows, n_blocks, done);
    }
}

// The product of n_rows rows with all pages.
template <class S, class P, int fetch, class F>
inline void int8_attention_product(const Int8Product& m, int n_rows, int n_blocks, F done) {
    const int parts = ceil_div(n_rows, P::kRows);
    for (int i = 0; i < parts; ++i) {
        const int row = part_begin(i, parts, n_rows);
        int8_attention_rows_of<S, P, fetch, P::kRows>(m, row, part_begin(i + 1, parts, n_rows) - row, n_blocks, done);
    }
}

}  // namespace
}  // namespace pygpt
