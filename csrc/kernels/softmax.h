// Contract: the softmax over a vocabulary, block by block, so that no row of logits has to be whole anywhere.
#pragma once

#include <cstddef>

#include "base/lanes.h"

namespace pygpt {

// Channels with a maximum and a sum of their own, from channel 0 on. A sum adds exp(x - its block's maximum) 16 values
// at a time in order, then by the tree of lanes; blocks become one sum, each times exp(its maximum - the greatest), 16
// blocks at a time in order, then by the tree. Every part of a product without a y begins at a multiple of it.
constexpr int kSoftmaxBlock = 128;
template <class T>
constexpr T count_softmax_blocks(T n) {
    return ceil_div(n, kSoftmaxBlock);
}

struct SoftmaxSum {
    float maximum;
    float log_sum;  // log(sum(exp(x - maximum)))
};

}  // namespace pygpt
