// The residual stream as a value: what was added up, and what the branches computed that was not added yet.
#pragma once

#include <array>

#include "model/tap.h"
#include "model/weights.h"
#include "model/workspace.h"

namespace pygpt {

struct Model;

// Where the norms of one branch stand; null: none there.
struct BranchNorms {
    const NormWeights* before = nullptr;
    const NormWeights* after_branch = nullptr;
    const NormWeights* after_sum = nullptr;

    BranchNorms(NormPlacement placement, const NormWeights& norm, const NormWeights& post_norm) {
        const bool sandwich = placement == NormPlacement::sandwich;
        if (sandwich || placement == NormPlacement::before_branch) before = &norm;
        if (placement == NormPlacement::after_branch) after_branch = &norm;
        if (sandwich) after_branch = &post_norm;
        if (placement == NormPlacement::after_sum) after_sum = &norm;
    }
};

// x is the stream once the pending branches are added in order; rows of x and of each branch belong together.
struct Residual {
    struct Branch {
        Activations rows;
        const NormWeights* after_branch;
        const NormWeights* after_sum;
        int layer;
        Site out;  // attention_out or mlp_out
    };

    Activations x;
    std::array<Branch, 2> pending{};
    int n_pending = 0;

    void add(const Activations& rows, const BranchNorms& norms, int layer, Site out) {
        pending[static_cast<std::size_t>(n_pending++)] = {rows, norms.after_branch, norms.after_sum, layer, out};
    }
};

// y = norm(x), one row; without a norm a copy. y may be x.
void norm_row(const Model& m, const NormWeights* w, const float* x, float* y);

// Adds to one row of x what is pending of it, which is used up.
void settle(const Model& m, const Residual& r, int row);

}  // namespace pygpt
