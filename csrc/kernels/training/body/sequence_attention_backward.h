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
template <class S, class T, bool is_plain>
struct AttentionBackward {
    using V = typename S::F32;

    const AttentionBackwardArgs& a;
    const SequenceAttentionArgs& in = a.in;
    const HeadLayout layout{in};
    const int rows = layout.rows, width = layout.width, depth = padded_depth<T>(in.head_dim);
    const std::ptrdiff_t size = static_cast<std::ptrdiff_t>(rows) * width;
    float* const dq = in.scratch;  // (rows, width), as the next two
    float* const dk = dq + size;
    float* const dv = dk + size;
    float* const lse = dv + size;     // (rows,)
    float* const along = lse + rows;  // (rows,): dout . out
    float* const cap_slopes = along + rows;                         // (kTrainBlock, kTrainBlock)
    float* const factors = cap_slopes + kTrainBlock * kTrainBlock;  // (kStrip, kTrainBlock): f
    // f p and ds of a block: a strip's rows, until they are rounded; where nothing is, they are the products' factors.
    static constexpr int kHeldRows = kValues<T> > 1 ? kStrip : kTrainBlock;
    float* const weights = factors + kStrip * kTrainBlock;  // (kHeldRows, kTrainBlock)
    float* const ds = weights + kHeldRows * kTrainBlock;  // (kHeldRows, kTrainBlock)
    T* const right_weights = reinterpret_cast<T*>(kValues<T> > 1 ? ds + kHeldRows * kTrainBlock : weights);
    const BothFactors<T> ds_factors{
        kValues<T> > 1 ? right_weights + kTrainBlock * kTrainBlock / 2 : reinterpret_cast<T*>(ds), kTrainBlock,
        kTrainBlock};
    const BothFactors<T> queries{ds_factors.end, rows, in.head_dim}, dout{queries.end, rows, in.head_dim};
    T* const keys = dout.end;  // a right factor
    T* const turned_keys = keys + size / kValues<T>;
    T* const turned_values = turned_keys + static_cast<std::ptrdiff_t>(rows) * depth;

    void run() {
        const float* const from = in.qkv + layout.key;
        pack_turned<S>(in.qkv + layout.value, layout.ld, in.n_ctx, in.head_dim, turned_values, queries.left);
        pack_turned<S>(from, layout.ld, in.n_ctx, in.head_dim, turned_keys, queries.left);
        pack_right_padded<S>(from, layout.ld, in.n_ctx, in.head_dim, keys);
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
        queries.template pack_padded<S>(in.qkv + column, layout.ld, in.n_ctx, in.head_dim);
        dout.template pack_padded<S>(a.dout + column, layout.ld_out, in.n_ctx, in.head_dim);
        for (int row = 0; row < in.n_ctx; ++row) {
            const float* const out = a.out + row * layout.ld_out + column;
            const float* const d = a.dout + row * layout.ld_out + column;
            V sum = S::zero();
            for_each_16(in.head_dim, [&](std::ptrdiff_t i, auto lanes) {
                __builtin_prefetch(out + kRowsAhead * layout.ld_out + i);
                sum = S::fma(S::load_n(d + i, lanes), S::load_n(out + i, lanes), sum);
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
            if constexpr (kValues<T> > 1) round_strip(strip, seen);
            constexpr int ld = kTrainBlock / kValues<T>;
            const StripProduct<T> m{ds_factors.left + strip * ld, ld, 1, term(keys, key), width, 16, seen / kValues<T>};
            strip_product_to<S>(m, width / 16, sum(dq, query + strip), width, add);
        }
        for (int strip = 0; strip < n_keys; strip += kStrip) {
            const int first = diagonal ? strip : 0, by = first / kValues<T> * kTrainBlock + strip;
            const auto add_up = [&](const T* of_block, const T* of_queries, float* to) {
                const StripProduct<T> m{of_block + by,
                                        1,
                                        kTrainBlock,
                                        term(of_queries, query + first),
                                        width,
                                        16,
                                        (n_queries - first) / kValues<T>};
                strip_product_to<S>(m, width / 16, sum(to, key + strip), width, !first_sum);
            };
            add_up(right_weights, dout.right, dv);
            add_up(ds_factors.right, queries.right, dk);
        }
    }

    // Where a row begins: of sums, of a left factor or a turned one, and of a right factor.
    float* sum(float* array, int row) const { return array + static_cast<std::ptrdiff_t>(row) * width; }
    const T* row_of(const T* array, int row) const { return array + static_cast<std::ptrdiff_t>(row) * depth; }
    const T* term(const T* array, int row) const {
        return array + static_cast<std::ptrdiff_t>(row / kValues<T>) * width;
    }
    // And of a strip in weights and ds.
    static int held(int strip) { return kHeldRows == kStrip ? 0 : strip * kTrainBlock; }

    void round_strip(int strip, int seen) const {
        const int pairs = strip / kValues<T> * kTrainBlock;
        pack_right<S>(weights, kTrainBlock, kStrip, seen, right_weights + pairs, kTrainBlock);
        pack_right<S>(ds, kTrainBlock, kStrip, seen, ds_factors.right + pairs, kTrainBlock);
        constexpr int ld = kTrainBlock / kValues<T>;
        pack_left<S>(ds, kTrainBlock, kStrip, seen, ds_factors.left + strip * ld, ld);
    }

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

    StripProduct<T> along_heads(const BothFactors<T>& of_queries, int query, const T* turned, int key) const {
        return {row_of(of_queries.left, query),
                depth,
                1,
                row_of(turned, key),
                16,
                16 * static_cast<std::ptrdiff_t>(depth),
                ceil_div(in.head_dim, kValues<T>)};
    }

    void probabilities(int head, int query, int key, int strip, int seen) const {
        const V scale = S::set1(in.scale);
        const float* const minus = lse + query + strip;
        const int last = query + strip - key;  // the first row of the strip sees keys up to this one of the block
        float* const to = weights + held(strip);
        const StripProduct<T> m = along_heads(queries, query + strip, turned_keys, key);
        strip_product<S>(
            m, ceil_div(seen, 16), [](int, int) { return S::zero(); },
            [=, this](int r, int p, V sum) {
                const int place = (strip + r) * kTrainBlock + p * 16;
                const V e = weight_of(head, query + strip + r, key + p * 16, S::mul(sum, scale), S::set1(minus[r]),
                                      cap_slopes + place);
                S::store(to + r * kTrainBlock + p * 16, S::first_n(e, last + r + 1 - p * 16, S::zero()));
            });
    }

    void gradients(int head, int query, int key, int strip, int seen) const {
        const V scale = S::set1(in.scale);
        const float* const minus = along + query + strip;
        float* const p_row = weights + held(strip);
        float* const to = ds + held(strip);
        const float* const slope = cap_slopes + strip * kTrainBlock;
        const StripProduct<T> m = along_heads(dout, query + strip, turned_values, key);
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

template <class S, class T>
void attention_backward(const AttentionBackwardArgs& a) {
    if (a.in.rule.is_plain()) return AttentionBackward<S, T, true>{a}.run();
    AttentionBackward<S, T, false>{a}.run();
}

}  // namespace
}  // namespace pygpt
