// The body of attention's backward pass.
#pragma once

#include "kernels/training/body/row_gradients.h"
#include "kernels/training/body/sequence_attention.h"

namespace pygpt {
namespace {

// With p the probabilities, f the dropout factors and o = out, for each query:
//   dp = f (dout . v);  ds = p (dp - dout . o) scale;  dq = sum ds k;  dk = sum ds q;  dv = sum f p dout.
// With a cap, ds is multiplied by its slope, 1 - (capped / cap)^2.
// By blocks of keys, and for each of them by blocks of queries from the diagonal on.
template <class S, bool is_plain>
struct AttentionBackward {
    using V = typename S::F32;

    const AttentionBackwardArgs& a;
    const SequenceAttentionArgs& in = a.in;
    const HeadLayout layout{in};
    const int rows = layout.rows, width = layout.width;
    const std::ptrdiff_t size = static_cast<std::ptrdiff_t>(rows) * width;
    float* const keys = in.scratch;           // (rows, width), as all that follow but where another shape stands
    float* const turned_keys = keys + size;   // as panels of 16: [rows / 16][width][16]
    float* const turned_values = turned_keys + size;
    float* const queries = turned_values + size;
    float* const dout = queries + size;
    float* const dq = dout + size;
    float* const dk = dq + size;
    float* const dv = dk + size;
    float* const lse = dv + size;      // (rows,)
    float* const along = lse + rows;   // (rows,): dout . out
    float* const weights = along + rows;                       // (kTrainBlock, kTrainBlock): f p
    float* const ds = weights + kTrainBlock * kTrainBlock;     // (kTrainBlock, kTrainBlock)
    float* const cap_slopes = ds + kTrainBlock * kTrainBlock;  // (kTrainBlock, kTrainBlock)
    float* const factors = cap_slopes + kTrainBlock * kTrainBlock;  // (kStrip, kTrainBlock): f

    void run() {
        copy_padded<S>(in.qkv + layout.value, layout.ld, in.n_ctx, in.head_dim, keys);
        turn_padded<S>(keys, rows, width, turned_values);
        copy_padded<S>(in.qkv + layout.key, layout.ld, in.n_ctx, in.head_dim, keys);
        turn_padded<S>(keys, rows, width, turned_keys);
        for (int head = layout.first_head; head < layout.end_head; ++head) {
            start(head);
            for (int key = 0; key < in.n_ctx; key += kTrainBlock) {
                for (int query = key; query < in.n_ctx; query += kTrainBlock) {
                    if (is_plain || key >= first_block(in.rule, query)) block(head, query, key);
                }
            }
            write(dq, static_cast<std::ptrdiff_t>(head) * in.head_dim);
        }
        write(dk, layout.key);
        write(dv, layout.value);
    }

    void write(const float* from, std::ptrdiff_t column) const {
        for (int row = 0; row < in.n_ctx; ++row) {
            float* const to = a.dqkv + row * layout.ld + column;
            for_each_16(in.head_dim, [&](std::ptrdiff_t d, auto lanes) {
                __builtin_prefetch(to + kRowsAhead * layout.ld + d, 1);
                S::store_n(to + d, S::load(from + static_cast<std::ptrdiff_t>(row) * width + d), lanes);
            });
        }
    }

    void start(int head) {
        const std::ptrdiff_t column = static_cast<std::ptrdiff_t>(head) * in.head_dim;
        copy_padded<S>(in.qkv + column, layout.ld, in.n_ctx, in.head_dim, queries);
        copy_padded<S>(a.dout + column, layout.ld_out, in.n_ctx, in.head_dim, dout);
        for (int row = 0; row < in.n_ctx; ++row) {
            const float* const out = a.out + row * layout.ld_out + column;
            const float* const d = dout + static_cast<std::ptrdiff_t>(row) * width;
            V sum = S::zero();
            for_each_16(in.head_dim, [&](std::ptrdiff_t i, auto lanes) {
                __builtin_prefetch(out + kRowsAhead * layout.ld_out + i);
                sum = S::fma(S::load(d + i), S::load_n(out + i, lanes), sum);
            });
            along[row] = S::reduce_add(sum);
            lse[row] = a.lse[static_cast<std::ptrdiff_t>(head) * in.n_ctx + row];
        }
        for (int row = in.n_ctx; row < rows; ++row) {  // a query that does not exist: its probabilities are 0
            along[row] = 0.0f;
            lse[row] = __builtin_inff();
        }
    }

    // Queries and keys from these on: the diagonal where they are the same.
    void block(int head, int query, int key) {
        const int n_queries = rows - query < kTrainBlock ? rows - query : kTrainBlock;
        const int n_keys = rows - key < kTrainBlock ? rows - key : kTrainBlock;
        const bool diagonal = query == key, first_sum = diagonal && head == layout.first_head;
        const bool add = key > (is_plain ? 0 : first_block(in.rule, query));
        for (int strip = 0; strip < n_queries; strip += kStrip) {
            const int seen = diagonal ? strip + kStrip : n_keys;
            probabilities(head, query, key, strip, seen);
            gradients(head, query, key, strip, seen);
            const StripProduct m{ds + strip * kTrainBlock, kTrainBlock, 1, at(keys, key), width, 16, seen};
            strip_product_to<S>(m, width / 16, at(dq, query + strip), width, add);
        }
        for (int strip = 0; strip < n_keys; strip += kStrip) {
            const int first = diagonal ? strip : 0, by = first * kTrainBlock + strip, n = n_queries - first;
            const StripProduct to_dv{weights + by, 1, kTrainBlock, at(dout, query + first), width, 16, n};
            strip_product_to<S>(to_dv, width / 16, at(dv, key + strip), width, !first_sum);
            const StripProduct to_dk{ds + by, 1, kTrainBlock, at(queries, query + first), width, 16, n};
            strip_product_to<S>(to_dk, width / 16, at(dk, key + strip), width, !first_sum);
        }
    }

    float* at(float* array, int row) const { return array + static_cast<std::ptrdiff_t>(row) * width; }

    // exp(score - lse) of a query and 16 keys, and the cap's slope.
    V weight_of(int head, int query, int key, V score, V minus, float* cap_slope) const {
        if constexpr (is_plain) return exp_not_positive_v<S>(S::sub(score, minus));
        if (in.rule.cap > 0.0f) {
            score = capped_v<S>(score, in.rule.cap);
            S::store(cap_slope, cap_slope_v<S>(score, in.rule.cap));
        }
        const V e = exp_not_positive_v<S>(S::sub(sloped<S>(in.rule, head, score, query - key), minus));
        return S::first_n(S::zero(), first_key(in.rule, query) - key, e);
    }

    void probabilities(int head, int query, int key, int strip, int seen) const {
        const V scale = S::set1(in.scale);
        const float* const minus = lse + query + strip;
        const int last = query + strip - key;  // the first row of the strip sees keys up to this one of the block
        const StripProduct m{at(queries, query + strip),
                             width,
                             1,
                             at(turned_keys, key),
                             16,
                             16 * static_cast<std::ptrdiff_t>(width),
                             in.head_dim};
        strip_product<S>(
            m, ceil_div(seen, 16), [](int, int) { return S::zero(); },
            [=, this](int r, int p, V sum) {
                const int place = (strip + r) * kTrainBlock + p * 16;
                const V e = weight_of(head, query + strip + r, key + p * 16, S::mul(sum, scale), S::set1(minus[r]),
                                      cap_slopes + place);
                S::store(weights + place, S::first_n(e, last + r + 1 - p * 16, S::zero()));
            });
    }

    void gradients(int head, int query, int key, int strip, int seen) const {
        const V scale = S::set1(in.scale);
        const float* const minus = along + query + strip;
        float* const p_row = weights + strip * kTrainBlock;
        float* const to = ds + strip * kTrainBlock;
        const float* const slope = cap_slopes + strip * kTrainBlock;
        const StripProduct m{at(dout, query + strip),
                             width,
                             1,
                             at(turned_values, key),
                             16,
                             16 * static_cast<std::ptrdiff_t>(width),
                             in.head_dim};
        const auto none = [](int, int) { return S::zero(); };
        const auto store = [=, this](int r, int p, V dp) {
            const V weight = S::load(p_row + r * kTrainBlock + p * 16);
            V d = S::mul(S::mul(weight, S::sub(dp, S::set1(minus[r]))), scale);
            if (!is_plain && in.rule.cap > 0.0f) d = S::mul(d, S::load(slope + r * kTrainBlock + p * 16));
            S::store(to + r * kTrainBlock + p * 16, d);
        };
        if (in.mask.threshold == 0) return strip_product<S>(m, ceil_div(seen, 16), none, store);
        const std::uint64_t number = first_row_of_head(in.mask_head + head) + static_cast<std::uint64_t>(query + strip);
        for (int r = 0; r < kStrip; ++r) {
            dropout_factors<S>(in.mask, number + static_cast<std::uint64_t>(r), key, round_up(seen, 16),
                               factors + r * kTrainBlock);
        }
        strip_product<S>(m, ceil_div(seen, 16), none, [=, this](int r, int p, V dp) {
            const V factor = S::load(factors + r * kTrainBlock + p * 16);
            store(r, p, S::mul(dp, factor));
            float* const weight = p_row + r * kTrainBlock + p * 16;
            S::store(weight, S::mul(S::load(weight), factor));
        });
    }
};

template <class S>
void attention_backward(const AttentionBackwardArgs& a) {
    if (a.in.rule.is_plain()) return AttentionBackward<S, true>{a}.run();
    AttentionBackward<S, false>{a}.run();
}

}  // namespace
}  // namespace pygpt
