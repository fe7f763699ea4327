// The body of attention's forward pass in training.
#pragma once

#include "kernels/body/math.h"
#include "kernels/body/rows.h"
#include "kernels/training/body/dropout.h"
#include "kernels/training/body/factors.h"
#include "kernels/training/body/strip.h"
#include "kernels/training/sequence_attention.h"

namespace pygpt {
namespace {

// The first key that a query sees.
inline int first_key(const SequenceRule& rule, int query) {
    return rule.window == 0 || query < rule.window ? 0 : query - rule.window + 1;
}
// The first of the block that holds it.
inline int first_block(const SequenceRule& rule, int query) {
    return first_key(rule, query) / kTrainBlock * kTrainBlock;
}

// Scores of a query, `distance` from the first of 16 keys on, which lie ever nearer.
template <class S>
inline typename S::F32 sloped(const SequenceRule& rule, int head, typename S::F32 score, int distance) {
    if (rule.slopes == nullptr) return score;
    const auto first = S::set1(-static_cast<float>(distance));
    return S::fma(S::set1(rule.slopes[head]), S::add(first, S::load(kLaneNumbers)), score);
}

// Where the parts of a sequence's heads lie.
struct HeadLayout {
    explicit HeadLayout(const SequenceAttentionArgs& a)
        : ld(static_cast<std::ptrdiff_t>(a.n_head + 2 * a.n_kv_head) * a.head_dim),
          ld_out(static_cast<std::ptrdiff_t>(a.n_head) * a.head_dim),
          key(static_cast<std::ptrdiff_t>(a.n_head + a.kv_head) * a.head_dim),
          value(key + static_cast<std::ptrdiff_t>(a.n_kv_head) * a.head_dim),
          rows(round_up(a.n_ctx, 16)),
          width(round_up(a.head_dim, 16)),
          first_head(a.kv_head * (a.n_head / a.n_kv_head)),
          end_head(first_head + a.n_head / a.n_kv_head) {}

    std::ptrdiff_t ld, ld_out;  // row strides of qkv and out
    std::ptrdiff_t key, value;  // columns of qkv
    int rows, width;            // n_ctx and head_dim, padded
    int first_head, end_head;   // the query heads
};

// The scores of one query become exp(score - maximum), those from `visible` on 0 up to a multiple of 16; the
// maximum and the sum.
struct RowSoftmax {
    float maximum, sum;
};
template <class S>
inline RowSoftmax softmax_row(float* scores, int visible) {
    using V = typename S::F32;
    const V lowest = S::set1(-__builtin_inff());
    V top = lowest;
    for (int i = 0; i < visible; i += 16) top = S::max(top, S::first_n(S::load(scores + i), visible - i, lowest));
    const float maximum = S::reduce_max(top);
    const V m = S::set1(maximum);
    V sum = S::zero();
    for (int i = 0; i < visible; i += 16) {
        const V e = S::first_n(exp_not_positive_v<S>(S::sub(S::load(scores + i), m)), visible - i, S::zero());
        S::store(scores + i, e);
        sum = S::add(sum, e);
    }
    return {maximum, S::reduce_add(sum)};
}

template <class S, class T, bool is_plain>
struct AttentionForward {
    const AttentionForwardArgs& a;
    const SequenceAttentionArgs& in = a.in;
    const HeadLayout layout{in};
    const int rows = layout.rows, width = layout.width, depth = padded_depth<T>(in.head_dim);
    float* const sums = in.scratch;                     // (kTrainBlock, width)
    float* const scores = sums + kTrainBlock * width;   // (kTrainBlock, rows)
    T* const weights = reinterpret_cast<T*>(scores);    // in their place: what scores become, at the row's beginning
    float* const maxima = scores + static_cast<std::ptrdiff_t>(kTrainBlock) * rows;        // (kTrainBlock,)
    float* const totals = maxima + kTrainBlock;                                             // (kTrainBlock,)
    float* const factors = totals + kTrainBlock;                                            // (rows,)
    T* const queries = reinterpret_cast<T*>(factors + rows);                                // (kTrainBlock, depth)
    T* const keys = queries + kTrainBlock * depth;                                          // turned
    T* const values = keys + static_cast<std::ptrdiff_t>(rows) * depth;                     // a right factor

    void run() {
        pack_turned<S>(in.qkv + layout.key, layout.ld, in.n_ctx, in.head_dim, keys, queries);
        pack_right_padded<S>(in.qkv + layout.value, layout.ld, in.n_ctx, in.head_dim, values);
        for (int head = layout.first_head; head < layout.end_head; ++head) {
            for (int first = 0; first < in.n_ctx; first += kTrainBlock) block(head, first);
        }
    }

    // The queries from `first` on.
    void block(int head, int first) {
        const int n = in.n_ctx - first < kTrainBlock ? in.n_ctx - first : kTrainBlock;
        const float* const q = in.qkv + first * layout.ld + static_cast<std::ptrdiff_t>(head) * in.head_dim;
        pack_left_padded<S>(q, layout.ld, n, in.head_dim, queries);
        const int begin = is_plain ? 0 : first_block(in.rule, first);
        // Keys in blocks that stay in the first cache level while the strips pass over them.
        for (int key = begin; key < first + n; key += kTrainBlock) {
            for (int strip = 0; strip < n; strip += kStrip) score(strip, key, first + strip + kStrip);
        }
        for (int i = 0; i < n; ++i) weigh(head, first, i);
        float* const lse = a.lse + static_cast<std::ptrdiff_t>(head) * in.n_ctx + first;
        for (int i = 0; i < n; ++i)
            lse[i] = static_cast<float>(static_cast<double>(maxima[i]) + log_of(static_cast<double>(totals[i])));
        for (int i = n; i < round_up(n, kStrip); ++i) {  // queries that do not exist
            for (int key = 0; key < rows; key += 16) S::store(scores + i * rows + key, S::zero());
        }
        for (int key = begin; key < first + n; key += kTrainBlock) {
            for (int strip = 0; strip < n; strip += kStrip) mix(strip, key, first + strip + kStrip, key > begin);
        }
        for (int i = 0; i < n; ++i) {
            const typename S::F32 factor = S::set1(1.0f / totals[i]);
            float* const to = a.out + (first + i) * layout.ld_out + static_cast<std::ptrdiff_t>(head) * in.head_dim;
            for_each_16(in.head_dim, [&](std::ptrdiff_t d, auto lanes) {
                S::store_n(to + d, S::mul(S::load(sums + i * width + d), factor), lanes);
            });
        }
    }

    // Keys of a block that begins at `key` which a strip that sees `limit` of them reads.
    static int seen(int key, int limit) {
        const int n = limit - key;
        return n < 0 ? 0 : n < kTrainBlock ? n : kTrainBlock;
    }

    void score(int strip, int key, int limit) {
        const typename S::F32 scale = S::set1(in.scale);
        float* const to = scores + static_cast<std::ptrdiff_t>(strip) * rows + key;
        const StripProduct<T> m{queries + strip * depth,
                                depth,
                                1,
                                keys + static_cast<std::ptrdiff_t>(key) * depth,
                                16,
                                16 * static_cast<std::ptrdiff_t>(depth),
                                ceil_div(in.head_dim, kValues<T>)};
        strip_product<S>(
            m, ceil_div(seen(key, limit), 16), [](int, int) { return S::zero(); },
            [=, this](int r, int p, typename S::F32 sum) { S::store(to + r * rows + p * 16, S::mul(sum, scale)); });
    }

    void weigh(int head, int first, int i) {
        const int query = first + i, read = (i / kStrip + 1) * kStrip + first;
        float* const row = scores + static_cast<std::ptrdiff_t>(i) * rows;
        const int from = is_plain ? 0 : first_block(in.rule, first),
                  begin = is_plain ? 0 : rule(head, query, from, row);
        const RowSoftmax s = softmax_row<S>(row + begin, query + 1 - begin);
        for (int key = round_up(query + 1, 16); key < read; key += 16) S::store(row + key, S::zero());
        maxima[i] = s.maximum;
        totals[i] = s.sum;
        if (in.mask.threshold > 0) {
            const std::uint64_t number = first_row_of_head(in.mask_head + head) + static_cast<std::uint64_t>(query);
            dropout_factors<S>(in.mask, number, begin, round_up(query + 1 - begin, 16), factors);
            for (int key = begin; key <= query; key += 16) {
                S::store(row + key, S::mul(S::load(row + key), S::load(factors + key - begin)));
            }
        }
        if constexpr (kValues<T> > 1) {
            auto* const rounded = reinterpret_cast<BFloat16*>(row);  // never beyond what was read
            for (int key = from; key < read; key += 16) S::store(rounded + key, S::load(row + key));
        }
    }

    // Puts the rules on a query's scores, of which those from `from` on were computed. Returns where those that it sees
    // begin, at a multiple of 16; the others are 0.
    int rule(int head, int query, int from, float* row) const {
        const typename S::F32 never = S::set1(-__builtin_inff());
        const int hidden = first_key(in.rule, query), begin = hidden / 16 * 16;
        for (int key = from; key < begin; key += 16) S::store(row + key, S::zero());
        for (int key = begin; key <= query; key += 16) {
            typename S::F32 score = S::load(row + key);
            if (in.rule.cap > 0.0f) score = capped_v<S>(score, in.rule.cap);
            score = sloped<S>(in.rule, head, score, query - key);
            S::store(row + key, S::first_n(never, hidden - key, score));
        }
        return begin;
    }

    void mix(int strip, int key, int limit, bool add) {
        const int n = seen(key, limit);
        if (n == 0) return;
        const StripProduct<T> m{weights + static_cast<std::ptrdiff_t>(strip) * rows + key / kValues<T>,
                                rows,
                                1,
                                values + static_cast<std::ptrdiff_t>(key / kValues<T>) * width,
                                width,
                                16,
                                n / kValues<T>};
        strip_product_to<S>(m, width / 16, sums + strip * width, width, add);
    }
};

template <class S, class T>
void attention_forward(const AttentionForwardArgs& a) {
    if (a.in.rule.is_plain()) return AttentionForward<S, T, true>{a}.run();
    AttentionForward<S, T, false>{a}.run();
}

}  // namespace
}  // namespace pygpt
