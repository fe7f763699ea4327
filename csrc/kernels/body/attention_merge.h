// Attention's segments become outputs.
#pragma once

#include "kernels/attention.h"
#include "kernels/body/math.h"

namespace pygpt {
namespace {

// The maximum of a segment of which a query sees no key; its total is 0. Finite, so that the difference of two is 0.
constexpr float kNothing = -3.402823466e38f;

// Takes a segment (value sums v, maximum, total) into what was merged before it.
template <class S>
struct Merged {
    using V = typename S::F32;
    V maximum, total, keep, take;

    // `keep` is what the values so far are multiplied by, and `take` those of the segment. For 16 queries.
    Merged(V old_maximum, V old_total, V segment_maximum, V segment_total) {
        maximum = S::max(old_maximum, segment_maximum);
        keep = exp_not_positive_v<S>(S::sub(old_maximum, maximum));
        take = exp_not_positive_v<S>(S::sub(segment_maximum, maximum));
        total = S::fma(segment_total, take, S::mul(old_total, keep));
    }
    static V values(V old, V segment, V keep, V take) { return S::fma(segment, take, S::mul(old, keep)); }
};

// A query's output. Its sink is merged as a segment of weight 1 without values.
template <class S>
void finish(const float* sums, float maximum, float total, const float* sink, int head_dim, float* output) {
    auto keep = S::set1(1.0f), all = S::set1(total);
    if (sink != nullptr) {
        const Merged<S> m(S::set1(maximum), all, S::set1(*sink), keep);
        keep = m.keep;
        all = m.total;
    }
    const auto factor = S::div(keep, all);
    for (int d = 0; d < head_dim; d += 16) {
        const int lanes = head_dim - d;
        const auto out = S::mul(S::load(sums + d), factor);
        S::store_n(output + d, out, lanes);
    }
}

template <class S>
void attention_merge(const AttentionMergeArgs& a) {
    const int padded = padded_head(a.head_dim);
    float* const sums = a.segments;
    float maximum = sums[padded], total = sums[padded + 1];
    for (int s = 1; s < a.n_segments; ++s) {
        const float* const next = a.segments + s * segment_floats(a.head_dim);
        const Merged<S> m(S::set1(maximum), S::set1(total), S::set1(next[padded]), S::set1(next[padded + 1]));
        for (int d = 0; d < padded; d += 16) {
            S::store(sums + d, Merged<S>::values(S::load(sums + d), S::load(next + d), m.keep, m.take));
        }
        float lanes[16];
        S::store(lanes, m.maximum);
        maximum = lanes[0];
        S::store(lanes, m.total);
        total = lanes[0];
    }
    finish<S>(sums, maximum, total, a.sink, a.head_dim, a.output);
}

}  // namespace
}  // namespace pygpt
