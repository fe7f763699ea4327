// The last product: logits, or the log-probabilities of given tokens without logits in memory.
#pragma once

#include <span>

#include "kernels/table.h"
#include "ops/activations.h"
#include "ops/linear.h"

namespace pygpt {

struct HeadCall {
    LinearCall product;  // without a y for log_probs
    float scale, cap;    // of logits, see Kernels::scale_and_cap
};

void logits(const Kernels& kernels, Team& team, const HeadCall& call);

// What is known of a row of logits when they are gone: of each of its blocks of kSoftmaxBlock the maximum and the sum
// of exp(x - maximum), (rows, count_softmax_blocks(n)) each.
struct BlockSums {
    Activations maxima, sums;
};

// out[i] = the log-probability of targets[i] by row i of the product: what Kernels::log_softmax makes of its logits.
// `scratch`: linear_scratch() floats for each thread.
void log_probs(const Kernels& kernels, Team& team, const HeadCall& call, std::span<const int> targets,
               const BlockSums& memory, float* scratch, float* out);

}  // namespace pygpt
