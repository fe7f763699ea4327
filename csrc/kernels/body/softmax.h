// Bodies of the softmax over a vocabulary (kernels/softmax.h).
#pragma once

#include "kernels/body/rows.h"
#include "kernels/softmax.h"

namespace pygpt {
namespace {

template <class S>
inline float maximum_of(const float* x, std::ptrdiff_t n) {
    const auto lowest = S::set1(-__builtin_inff());
    auto top = lowest;
    for_each_16(n, [&](std::ptrdiff_t i, auto lanes) {
        top = S::max(top, S::first_n(S::load_n(x + i, lanes), lanes, lowest));
    });
    return S::reduce_max(top);
}

template <class S>
void softmax_blocks(const float* x, float* maxima, float* sums, std::ptrdiff_t n) {
    for (std::ptrdiff_t from = 0; from < n; from += kSoftmaxBlock, x += kSoftmaxBlock) {
        const std::ptrdiff_t size = n - from < kSoftmaxBlock ? n - from : kSoftmaxBlock;
        const float maximum = maximum_of<S>(x, size);
        // A block of impossible tokens adds nothing: -infinity less a number, not less itself.
        const auto m = S::set1(maximum == -__builtin_inff() ? 0.0f : maximum);
        auto sum = S::zero();
        for_each_16(size, [&](std::ptrdiff_t i, auto lanes) {
            const auto e = exp_not_positive_v<S>(S::sub(S::load_n(x + i, lanes), m));
            sum = S::add(sum, S::first_n(e, lanes, S::zero()));
        });
        *maxima++ = maximum;
        *sums++ = S::reduce_add(sum);
    }
}

// sum + what the blocks add to it, given the greatest of all maxima.
template <class S>
inline typename S::F32 add_blocks(typename S::F32 sum, const float* maxima, const float* sums, std::ptrdiff_t blocks,
                                  float maximum) {
    const auto m = S::set1(maximum);
    for_each_16(blocks, [&](std::ptrdiff_t i, auto lanes) {
        const auto factor = exp_not_positive_v<S>(S::sub(S::load_n(maxima + i, lanes), m));
        sum = S::fma(S::load_n(sums + i, lanes), S::first_n(factor, lanes, S::zero()), sum);
    });
    return sum;
}

template <class S>
inline float log_of_sum(typename S::F32 sum) {
    return static_cast<float>(log_of(static_cast<double>(S::reduce_add(sum))));
}

template <class S>
SoftmaxSum softmax_sum(const float* maxima, const float* sums, std::ptrdiff_t blocks) {
    const float maximum = maximum_of<S>(maxima, blocks);
    return {maximum, log_of_sum<S>(add_blocks<S>(S::zero(), maxima, sums, blocks, maximum))};
}

template <class S>
void log_softmax(const float* x, float* y, std::ptrdiff_t n) {
    constexpr std::ptrdiff_t kBlocks = 16, kValues = kBlocks * kSoftmaxBlock;
    const float maximum = maximum_of<S>(x, n);
    auto sum = S::zero();
    for (std::ptrdiff_t from = 0; from < n; from += kValues) {
        float maxima[kBlocks], sums[kBlocks];
        const std::ptrdiff_t size = n - from < kValues ? n - from : kValues;
        softmax_blocks<S>(x + from, maxima, sums, size);
        sum = add_blocks<S>(sum, maxima, sums, count_softmax_blocks(size), maximum);
    }
    const auto m = S::set1(maximum), log_sum = S::set1(log_of_sum<S>(sum));
    map<S>(x, y, n, [&](auto v) { return S::sub(S::sub(v, m), log_sum); });
}

}  // namespace
}  // namespace pygpt
