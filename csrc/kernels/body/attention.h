// The body of kernels/attention.h.
#pragma once

#include "base/lanes.h"
#include "kernels/attention.h"
#include "kernels/body/attention_memory.h"
#include "kernels/body/attention_merge.h"
#include "kernels/body/math.h"

namespace pygpt {
namespace {

// Queries that are multiplied together, as far as registers allow.
constexpr int kAttentionRows = 6;
// Up to so many queries read the cache's pages as they lie there; for more a page is first opened.
constexpr int kFewQueries = 2 * kAttentionRows;
// How far ahead of what is read the cache fetches of each page. Measured with AVX-512, which reads four pages side by
// side, on a Xeon, and with AVX2 on a Zen 3; Arm's vectors have as many sums as AVX2's.
template <class S>
constexpr int kFetchBytes = S::kRegisters >= 32 ? 2048 : 4096;

// The state of one call; what is larger than a few values a query lies in the caller's scratch. Cache: how keys and
// values are read and multiplied, a class of cache_float.h, cache_int8.h or isa/amx_attention.cpp. kRows queries are
// multiplied together; in a call of up to kFew pages are read as they lie there.
template <class S, class Cache>
struct AttentionRun {
    using V = typename S::F32;
    using T = typename Cache::Element;

    explicit AttentionRun(const AttentionArgs& args) : a(args) {}

    const AttentionArgs& a;
    const AttentionMemory memory{a};
    Cache cache{a, memory};
    const bool plain = is_plain();  // a causal softmax of the scores as they are
    int start = 0;                  // the first page that is read of a segment
    const int padded = memory.padded;
    float* const weights = memory.weights;
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
            cache.read_query(i);
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

    int tiles() const { return ceil_div(a.n_queries, Cache::kRows); }
    // body(from, to) for the queries tile by tile.
    template <class F>
    void each_tile(F body) const {
        const int n = tiles();
        for (int i = 0; i < n; ++i) body(part_begin(i, n, a.n_queries), part_begin(i + 1, n, a.n_queries));
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

    static AttentionTile tile(int from, int to, int limit, int page, int n_pages = 1) {
        return {from, to, page % kSegmentPages * kPagePositions, n_pages, seen(limit, page)};
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
    // after it up to the last position that is read.
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

    void weigh_all(int first_position, int limit) {
        const int read = within_segment(limit - first_position);
        for (int i = 0; i < a.n_queries; ++i) {
            if (plain) {
                weigh<true>(i, first_position, read);
            } else {
                weigh<false>(i, first_position, read);
            }
        }
    }

    // The segment's keys, then its values. `limit`: of the query that sees most.
    void segment(int index, int limit, float* to_sums) {
        const int first = index * kSegmentPages, pages = ceil_div(limit, kPagePositions);
        const int end = first + kSegmentPages < pages ? first + kSegmentPages : pages;
        start = first;
        cache.begin_segment(index);
        while (start + 1 < end && passed(0, a.n_queries, start)) ++start;
        if (a.n_queries > Cache::kFew) {
            for (int page = start; page < end; ++page)
                many_scores(page, page + 1 < end ? keys(page + 1) : values(start));
            weigh_all(first * kPagePositions, limit);
            for (int page = start; page < end; ++page) {
                many_values(page, page + 1 < end ? values(page + 1) : end < pages ? keys(end) : values(page), to_sums);
            }
        } else {
            few(first, end, pages, limit, to_sums);
        }
        cache.turn_back(to_sums);
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
        const auto each = [&](auto body) {
            for (int page = start, n = 0; page < end; page += n) {
                n = whole > page ? whole - page : 1;
                each_tile([&](int from, int to) { body(tile(from, to, limit, page, n), page - first); });
            }
        };
        each([&](const AttentionTile& t, int i) { cache.template scores<true>(t, of_keys + i, of_values + i); });
        weigh_all(first * kPagePositions, limit);
        each([&](const AttentionTile& t, int i) {
            cache.template add_values<true>(t, of_values + i, after + i, to_sums, first + i > start);
        });
    }

    // body(from, to) for the queries tile by tile; what comes next is fetched bit by bit meanwhile.
    template <class F>
    void each_fetching(const T* next, F body) const {
        const int n = tiles(), lines = kPagePositions * padded * static_cast<int>(sizeof(T)) / 64;
        int i = 0;
        each_tile([&](int from, int to) {
            body(from, to);
            for (int line = lines * i / n; line < lines * (i + 1) / n; ++line) {
                __builtin_prefetch(reinterpret_cast<const char*>(next) + line * 64);
            }
            ++i;
        });
    }

    void many_scores(int page, const T* next) {
        const auto* const b = cache.opened(keys(page));
        each_fetching(next, [&](int from, int to) {
            const int limit = longest(from, to);
            if (seen(limit, page) > 0 && !passed(from, to, page))
                cache.template scores<false>(tile(from, to, limit, page), &b, &b);
        });
    }

    void many_values(int page, const T* next, float* to_sums) {
        const auto* const b = cache.opened(values(page));
        const bool first = page == start;
        each_fetching(next, [&](int from, int to) {
            const int limit = longest(from, to);
            if (first || (seen(limit, page) > 0 && !passed(from, to, page)))
                cache.template add_values<false>(tile(from, to, limit, page), &b, &b, to_sums, !first);
        });
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
                float* const old = memory.sums + (i + j) * padded;
                const float* const added = memory.segment_sums + (i + j) * padded;
                for (int d = 0; d < padded; d += 16) {
                    S::store(old + d, Merged<S>::values(S::load(old + d), S::load(added + d), by_keep, by_take));
                }
            }
        }
    }
};

template <class S, class Cache>
void attention(const AttentionArgs& a) {
    AttentionRun<S, Cache> run(a);
    run.read_queries();
    const int limit = run.longest(0, a.n_queries);
    if (a.segment >= 0) {
        run.segment(a.segment, limit, run.memory.sums);
        for (int i = 0; i < a.n_queries; ++i) {
            for (int d = 0; d < run.padded; d += 16)
                S::store(a.outputs[i] + d, S::load(run.memory.sums + i * run.padded + d));
            a.outputs[i][run.padded] = run.segment_maximum[i];
            a.outputs[i][run.padded + 1] = run.segment_total[i];
        }
        return;
    }
    const int first = run.earliest(0, a.n_queries) / kSegmentPositions;
    run.segment(first, limit, run.memory.sums);
    for (int i = 0; i < a.n_queries; ++i) {
        run.maximum[i] = run.segment_maximum[i];
        run.total[i] = run.segment_total[i];
    }
    for (int s = first + 1; s * kSegmentPositions < limit; ++s) {
        run.segment(s, limit, run.memory.segment_sums);
        run.merge_segment();
    }
    for (int i = 0; i < a.n_queries; ++i) {
        const float* const sink = a.sinks == nullptr ? nullptr : a.sinks + i;
        finish<S>(run.memory.sums + i * run.padded, run.maximum[i], run.total[i], sink, a.head_dim, a.outputs[i]);
    }
}

}  // namespace
}  // namespace pygpt
