// The last product: logits, or the scores of given tokens without logits in memory.
#pragma once

#include <span>

#include "kernels/table.h"
#include "ops/activations.h"
#include "ops/linear.h"

namespace pygpt {

struct HeadCall {
    LinearCall product;  // without a y for score
    float scale, cap;    // of logits, see Kernels::scale_and_cap
};

void logits(const Kernels& kernels, Team& team, const HeadCall& call);

// Tokens that may follow a row.
struct Targets {
    std::span<const int> tokens;
    float* out;  // (tokens.size(), kScoreWidth): the log-probability; 1 if it is the likeliest token of all, else 0
};

// What a target's score is made of: see Targets.
constexpr int kScoreWidth = 2;

// What is known of a row of logits when they are gone: of each of its blocks of kSoftmaxBlock the maximum and the sum
// of exp(x - maximum), (rows, count_softmax_blocks(n)) each.
struct BlockSums {
    Activations maxima, sums;
};

// Scores the targets of each row of the product: by what Kernels::log_softmax makes of its logits, of which the first
// of the greatest is the likeliest. `scratch`: linear_scratch() floats for each thread.
void score(const Kernels& kernels, Team& team, const HeadCall& call, std::span<const Targets> targets,
           const BlockSums& memory, float* scratch);

}  // namespace pygpt
