// The body of kernels/attention.h.
#pragma once

#include <type_traits>

#include "base/lanes.h"
#include "kernels/attention.h"
#include "kernels/body/attention_merge.h"
#include "kernels/body/attention_tile.h"
#include "kernels/body/math.h"

namespace pygpt {
namespace {

// The state of one call; what is larger than a few values a query lies in the caller's scratch.
template <class S, class T>
struct AttentionRun {
    using V = typename S::F32;

    explicit AttentionRun(const AttentionArgs& args) : a(args) {}

    const AttentionArgs& a;
    const bool plain = is_plain();  // a causal softmax of the scores as they are
    int start = 0;                  // the first page that is read of a segment
    const int padded = padded_head(a.head_dim);
    const std::ptrdiff_t all_values = static_cast<std::ptrdiff_t>(kMaxAttentionQueries) * padded;
    float* const q = a.scratch;                                             // (queries, padded), scaled
    float* const sums = q + all_values;                                     // (queries, padded), all segments so far
    float* const segment_sums = sums + all_values;                          // (queries, padded), of this segment
    float* const weights = segment_sums + all_values;                       // (queries, kWeightStride)
    float* const wide = weights + kMaxAttentionQueries * kWeightStride;  // a page's keys or values as float32
    float maximum[kMaxAttentionQueries], total[kMaxAttentionQueries];
    float segment_maximum[kMaxAttentionQueries], segment_total[kMaxAttentionQueries];

    // Queries and outputs lie far apart in memory: they are fetched ahead.
    void read_queries() {
        constexpr int kAhead = 12;
        for (int i = 0; i < a.n_queries; ++i) {
            for (int d = 0; d < a.head_dim; d += 16) {
                if (i + kAhead < a.n_queries) __builtin_prefetch(a.queries[i + kAhead] + d);
                __builtin_prefetch(a.outputs[i] + d, 1);
            }
            for (int d = 0; d < a.head_dim; ++d) q[i * padded + d] = a.queries[i][d] * a.scale;
        }
    }

    int longest(int from, int to) const {
        int most = 0;
        for (int i = from; i < to; ++i) most = a.ranges[i].end > most ? a.ranges[i].end : most;
        return most;
    }

    int earliest(int from, int to) const {
        int least = a.ranges[from].begin;
        for (int i = from + 1; i < to; ++i) least = a.ranges[i].begin < least ? a.ranges[i].begin : least;
        return least;
    }

    bool is_plain() const {
        bool all = a.cap == 0.0f && a.slopes == nullptr;
        for (int i = 0; i < a.n_queries; ++i) all &= a.ranges[i].begin == 0;
        return all;
    }

    const T* keys(int page) const { return reinterpret_cast<const T*>(a.pages[page] + a.keys); }
    const T* values(int page) const { return reinterpret_cast<const T*>(a.pages[page] + a.values); }

    // body(from, to) for the queries tile by tile.
    template <class F>
    int each_tile(F body) const {
        const int tiles = ceil_div(a.n_queries, kAttentionRows);
        for (int i = 0; i < tiles; ++i) body(part_begin(i, tiles, a.n_queries), part_begin(i + 1, tiles, a.n_queries));
        return tiles;
    }

    // A page's keys or values as float32, converted once for all tiles.
    template <class F>
    void each_widened(const T* from, int n, const T* next, F body) const {
        for (int i = 0; i < n; i += 16) S::store(wide + i, S::load(from + i));
        const int lines = n * static_cast<int>(sizeof(T)) / 64, tiles = each_tile([](int, int) {});
        int tile = 0;
        each_tile([&](int first, int end) {
            body(first, end);
            // What comes next is fetched bit by bit meanwhile.
            for (int line = lines * tile / tiles; line < lines * (tile + 1) / tiles; ++line) {
                __builtin_prefetch(reinterpret_cast<const char*>(next) + line * 64);
            }
            ++tile;
        });
    }

    // Whether a page ends before the range of each of these queries begins.
    bool passed(int from, int to, int page) const {
        return !plain && (page + 1) * kPagePositions <= earliest(from, to);
    }

    // The keys that queries of which the longest sees `limit` see of a page.
    static int seen(int limit, int page) {
        const int n = limit - page * kPagePositions;
        return n < 0 ? 0 : n < kPagePositions ? n : kPagePositions;
    }

    template <bool fetch, class B>
    int scores(int from, int to, int limit, int page, int n_pages, const B* const* b, const B* const* next) const {
        float* const c = weights + from * kWeightStride + page % kSegmentPages * kPagePositions;
        return attention_product<S, false, fetch>(AttentionProduct<B>{q + from * padded, padded, 0, a.head_dim, b,
                                                                      kPagePositions, next, c, kWeightStride, false},
                                                  to - from, n_pages, ceil_div(seen(limit, page), 16));
    }

    template <bool fetch, class B>
    int add_values(int from, int to, int limit, int page, int n_pages, const B* const* b, const B* const* next,
                   float* to_sums) const {
        const float* const w = weights + from * kWeightStride + page % kSegmentPages * kPagePositions;
        return attention_product<S, true, fetch>(
            AttentionProduct<B>{w, kWeightStride, kPagePositions, seen(limit, page), b, padded, next,
                                to_sums + from * padded, padded, page > start},
            to - from, n_pages, padded / 16);
    }

    // Scores of query i for the 16 keys from `position` on, capped and biased.
    V ruled(V score, int i, int position) const {
        if (a.cap > 0.0f) score = capped_v<S>(score, a.cap);
        if (a.slopes != nullptr) {
            const V first = S::set1(static_cast<float>(position - (a.ranges[i].end - 1)));
            score = S::fma(S::set1(a.slopes[i]), S::add(first, S::load(kLaneNumbers)), score);
        }
        return score;
    }

    static int within_segment(int at) { return at < 0 ? 0 : at < kSegmentPositions ? at : kSegmentPositions; }

    // The place where scores become weights: exp(score - maximum) of one query in a segment, 0 before its range and
    // after it up to the last position that its tile reads.
    template <bool is_plain>
    void weigh(int i, int first_position, int read) {
        const V never = S::set1(-__builtin_inff());
        float* const s = weights + i * kWeightStride;
        const int visible = within_segment(a.ranges[i].end - first_position);
        const int hidden = is_plain ? 0 : within_segment(a.ranges[i].begin - first_position), begin = hidden / 16 * 16;
        if constexpr (!is_plain) {
            for (int at = 0; at < begin; at += 16) S::store(s + at, S::zero());
            if (hidden >= visible) {  // what Merged takes for nothing
                for (int at = begin; at < read; at += 16) S::store(s + at, S::zero());
                segment_maximum[i] = kNothing;
                segment_total[i] = 0.0f;
                return;
            }
            for (int at = begin; at < visible; at += 16) {
                S::store(s + at, S::first_n(never, hidden - at, ruled(S::load(s + at), i, first_position + at)));
            }
        }
        const int whole = visible / 16 * 16, lanes = visible % 16;
        V top = never;
        for (int at = begin; at < whole; at += 16) top = S::max(top, S::load(s + at));
        if (lanes > 0) {
            const V last = S::first_n(S::load(s + whole), lanes, never);
            S::store(s + whole, last);
            top = S::max(top, last);
        }
        segment_maximum[i] = S::reduce_max(top);
        const V m = S::set1(segment_maximum[i]);
        V sum = S::zero();
        int at = begin;
        for (; at < visible; at += 16) {
            const V weight = exp_not_positive_v<S>(S::sub(S::load(s + at), m));
            S::store(s + at, weight);
            sum = S::add(sum, weight);
        }
        for (; at < read; at += 16) S::store(s + at, S::zero());
        segment_total[i] = S::reduce_add(sum);
    }

    void weigh_all(int first_position) {
        each_tile([&](int from, int to) {
            const int read = within_segment(longest(from, to) - first_position);
            for (int i = from; i < to; ++i) {
                if (plain) {
                    weigh<true>(i, first_position, read);
                } else {
                    weigh<false>(i, first_position, read);
                }
            }
        });
    }

    // The segment's keys, then its values. `limit`: of the query that sees most.
    void segment(int index, int limit, float* to_sums) {
        const int first = index * kSegmentPages, pages = ceil_div(limit, kPagePositions);
        const int end = first + kSegmentPages < pages ? first + kSegmentPages : pages;
        start = first;
        while (start + 1 < end && passed(0, a.n_queries, start)) ++start;
        if (a.n_queries > kAttentionRows) {
            for (int page = start; page < end; ++page)
                many_scores(page, page + 1 < end ? keys(page + 1) : values(start));
            weigh_all(first * kPagePositions);
            for (int page = start; page < end; ++page) {
                many_values(page, page + 1 < end ? values(page + 1) : end < pages ? keys(end) : values(page), to_sums);
            }
        } else {
            few(first, end, pages, limit, to_sums);
        }
    }

    // A few queries: whole pages are read side by side straight from the cache.
    void few(int first, int end, int pages, int limit, float* to_sums) {
        const T *of_keys[kSegmentPages], *of_values[kSegmentPages], *after[kSegmentPages];
        for (int i = 0; i < kSegmentPages; ++i) {
            const int at = first + i, page = at < start ? start : at < end ? at : end - 1, later = page + kSegmentPages;
            of_keys[i] = keys(page);
            of_values[i] = values(page);
            after[i] = later < pages ? keys(later) : of_values[i];
        }
        const int whole = limit / kPagePositions < end ? limit / kPagePositions : end;
        for (int page = start; page < end;) {
            const int n = whole > page ? whole - page : 1, i = page - first;
            page += scores<true>(0, a.n_queries, limit, page, n, of_keys + i, of_values + i);
        }
        weigh_all(first * kPagePositions);
        for (int page = start; page < end;) {
            const int n = whole > page ? whole - page : 1, i = page - first;
            page += add_values<true>(0, a.n_queries, limit, page, n, of_values + i, after + i, to_sums);
        }
    }

    void many_scores(int page, const T* next) const {
        const T* const b = keys(page);
        if constexpr (std::is_same_v<T, float>) {
            each_tile([&](int from, int to) {
                const int limit = longest(from, to);
                if (seen(limit, page) > 0 && !passed(from, to, page)) scores<true>(from, to, limit, page, 1, &b, &next);
            });
        } else {
            each_widened(b, kPagePositions * a.head_dim, next, [&](int from, int to) {
                const int limit = longest(from, to);
                const float* const w = wide;
                if (seen(limit, page) > 0 && !passed(from, to, page)) scores<false>(from, to, limit, page, 1, &w, &w);
            });
        }
    }

    void many_values(int page, const T* next, float* to_sums) const {
        const T* const b = values(page);
        const bool first = page == start;
        if constexpr (std::is_same_v<T, float>) {
            each_tile([&](int from, int to) {
                const int limit = longest(from, to);
                if (first || (seen(limit, page) > 0 && !passed(from, to, page)))
                    add_values<true>(from, to, limit, page, 1, &b, &next, to_sums);
            });
        } else {
            each_widened(b, kPagePositions * padded, next, [&](int from, int to) {
                const int limit = longest(from, to);
                const float* const w = wide;
                if (first || (seen(limit, page) > 0 && !passed(from, to, page)))
                    add_values<false>(from, to, limit, page, 1, &w, &w, to_sums);
            });
        }
    }

    void merge_segment() {
        for (int i = 0; i < a.n_queries; i += 16) {
            const int lanes = a.n_queries - i;
            const Merged<S> m(S::load_n(maximum + i, lanes), S::load_n(total + i, lanes),
                              S::load_n(segment_maximum + i, lanes), S::load_n(segment_total + i, lanes));
            S::store_n(maximum + i, m.maximum, lanes < 16 ? lanes : 16);
            S::store_n(total + i, m.total, lanes < 16 ? lanes : 16);
            float keep[16], take[16];
            S::store(keep, m.keep);
            S::store(take, m.take);
            for (int j = 0; j < lanes && j < 16; ++j) {
                const V by_keep = S::set1(keep[j]), by_take = S::set1(take[j]);
                float* const old = sums + (i + j) * padded;
                const float* const added = segment_sums + (i + j) * padded;
                for (int d = 0; d < padded; d += 16) {
                    S::store(old + d, Merged<S>::values(S::load(old + d), S::load(added + d), by_keep, by_take));
                }
            }
        }
    }
};

template <class S, class T>
void attention(const AttentionArgs& a) {
    AttentionRun<S, T> run(a);
    run.read_queries();
    const int limit = run.longest(0, a.n_queries);
    if (a.segment >= 0) {
        run.segment(a.segment, limit, run.sums);
        for (int i = 0; i < a.n_queries; ++i) {
            for (int d = 0; d < run.padded; d += 16) S::store(a.outputs[i] + d, S::load(run.sums + i * run.padded + d));
            a.outputs[i][run.padded] = run.segment_maximum[i];
            a.outputs[i][run.padded + 1] = run.segment_total[i];
        }
        return;
    }
    const int first = run.earliest(0, a.n_queries) / kSegmentPositions;
    run.segment(first, limit, run.sums);
    for (int i = 0; i < a.n_queries; ++i) {
        run.maximum[i] = run.segment_maximum[i];
        run.total[i] = run.segment_total[i];
    }
    for (int s = first + 1; s * kSegmentPositions < limit; ++s) {
        run.segment(s, limit, run.segment_sums);
        run.merge_segment();
    }
    for (int i = 0; i < a.n_queries; ++i) {
        const float* const sink = a.sinks == nullptr ? nullptr : a.sinks + i;
        finish<S>(run.sums + i * run.padded, run.maximum[i], run.total[i], sink, a.head_dim, a.outputs[i]);
    }
}

}  // namespace
}  // namespace pygpt
