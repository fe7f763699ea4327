// The body of kernels/attention.h.
#pragma once

#include <cstdint>

#include "kernels/attention.h"
#include "kernels/body/math.h"
#include "kernels/body/tile.h"

namespace pygpt {
namespace {

// The state of one call: per query a running maximum and sum; values and scores lie in the caller's scratch.
template <class S, class T>
struct AttentionRun {
    using V = typename S::F32;
    static constexpr int kBlocks = kPagePositions / 16;

    explicit AttentionRun(const AttentionArgs& args) : a(args) {}

    const AttentionArgs& a;
    const int padded = padded_head(a.head_dim);
    float* const q = a.scratch;                                        // (queries, padded)
    float* const sums = q + kMaxAttentionQueries * padded;             // (queries, padded)
    float* const scores = sums + kMaxAttentionQueries * padded;        // (queries, 64)
    float maximum[kMaxAttentionQueries];
    float total[kMaxAttentionQueries];
    float shrink[kMaxAttentionQueries];  // what the values so far are multiplied by before the current page's are added

    void start() {
        for (int i = 0; i < a.n_queries; ++i) {
            for (int d = 0; d < a.head_dim; ++d) q[i * padded + d] = a.queries[i][d];
            for (int d = 0; d < padded; ++d) sums[i * padded + d] = 0.0f;
            maximum[i] = -__builtin_inff();
            total[i] = 0.0f;
        }
    }

    // Scores of one query's page become weights exp(score - maximum); its sums shrink to the new maximum.
    void weigh(int i, int first_position) {
        const int visible = a.limits[i] - first_position;
        const V never = S::set1(-__builtin_inff());
        V s[kBlocks];
        V top = never;
        for (int b = 0; b < kBlocks; ++b) {
            float* at = scores + i * kPagePositions + b * 16;
            const int lanes = visible - b * 16;
            s[b] = S::first_n(S::mul(S::load(at), S::set1(a.scale)), lanes, never);
            top = S::max(top, s[b]);
        }
        const float page_top = S::reduce_max(top);
        const float new_top = maximum[i] > page_top ? maximum[i] : page_top;
        float factor[16];
        S::store(factor, exp_v<S>(S::set1(maximum[i] - new_top)));
        shrink[i] = factor[0];
        maximum[i] = new_top;
        V sum = S::zero();
        for (int b = 0; b < kBlocks; ++b) {
            const V weight = exp_v<S>(S::sub(s[b], S::set1(new_top)));
            S::store(scores + i * kPagePositions + b * 16, weight);
            sum = S::add(sum, weight);
        }
        total[i] = total[i] * shrink[i] + S::reduce_add(sum);
    }

    // While a page's keys are read its values are fetched, and with them the next page's keys.
    void page(int index, int keys, bool last) {
        const T* k = static_cast<const T*>(a.key_pages[index]);
        const T* v = static_cast<const T*>(a.value_pages[index]);
        const auto distance = [](const void* from, const void* to) {
            return static_cast<std::ptrdiff_t>(reinterpret_cast<std::intptr_t>(to) -
                                               reinterpret_cast<std::intptr_t>(from));
        };
        const Product<T> by_keys{
            q, padded, a.head_dim, k, static_cast<std::ptrdiff_t>(a.head_dim) * 16, distance(k, v)};
        block_product<S>(
            by_keys, a.n_queries, (keys + 15) / 16, [](int, int) { return S::zero(); },
            [&](int i, int b, V sum) { S::store(scores + i * kPagePositions + b * 16, sum); });
        for (int i = 0; i < a.n_queries; ++i) weigh(i, index * kPagePositions);
        const Product<T> by_values{scores, kPagePositions,      keys,
                                   v,      kPagePositions * 16, last ? 0 : distance(v, a.key_pages[index + 1])};
        block_product<S>(
            by_values, a.n_queries, padded / 16,
            [&](int i, int d) { return S::mul(S::load(sums + i * padded + d * 16), S::set1(shrink[i])); },
            [&](int i, int d, V sum) { S::store(sums + i * padded + d * 16, sum); });
    }

    void finish() {
        for (int i = 0; i < a.n_queries; ++i) {
            const V divisor = S::set1(total[i]);
            for (int d = 0; d < padded; d += 16) {
                const V out = S::div(S::load(sums + i * padded + d), divisor);
                const int lanes = a.head_dim - d;
                S::store_n(a.outputs[i] + d, out, lanes < 16 ? lanes : 16);
            }
        }
    }
};

template <class S, class T>
void attention(const AttentionArgs& a) {
    AttentionRun<S, T> run(a);
    run.start();
    int longest = 0;
    for (int i = 0; i < a.n_queries; ++i) longest = a.limits[i] > longest ? a.limits[i] : longest;
    for (int first = 0, index = 0; first < longest; first += kPagePositions, ++index) {
        const int keys = longest - first;
        run.page(index, keys < kPagePositions ? keys : kPagePositions, keys <= kPagePositions);
    }
    run.finish();
}

}  // namespace
}  // namespace pygpt
