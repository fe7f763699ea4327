// Mixture of experts: each row runs the few MLPs that a router chooses for it.
#pragma once

#include <span>

#include "ops/mlp.h"

namespace pygpt {

struct Routing {
    int n_expert;
    int n_used;
    bool normalized;  // weights add up to 1 over the chosen, else over all experts
    bool shared;  // one MLP more, which every row runs ...
    bool shared_gate;  // ... times the logistic function of a score of its own, the last of the router's

    int n_active() const { return n_used + (shared ? 1 : 0); }
};

struct Choice {
    int expert;
    float weight;
};

// The choice of one row, `to` (n_active,): the experts of the highest scores, the highest first, of equal ones the
// first expert; then the shared one as expert n_expert. Where a score is NaN all weights are. Sums are added in the
// order of the experts, or of the choice where they are `normalized`. Uses up the scores; exps (n_expert,) is scratch.
void choose_experts(const Kernels& kernels, const Routing& routing, float* scores, float* exps, Choice* to);

// The memory of a step of R rows: gathered are R * n_used rows, sorted by expert, those of an expert in order.
struct ExpertRows {
    Activations scores, exps;  // (R, scores of the router)
    std::span<Choice> choices;  // (R, n_active)
    std::span<int> places;  // (R, n_active): where the row is among the gathered ones; the shared expert's follow
    std::span<int> begin;  // (n_expert + 1,): where an expert's rows begin
    // Gathered, as in MlpCall
    Activations x;
    QuantizedRows quantized;
    Activations up, inner;
    QuantizedRows prepared;
    Activations y;  // and the shared expert's
};

struct ExpertsCall {
    Routing routing;
    const Linear& router;  // its weights read floats
    std::span<const Mlp> experts;
    int n_inner;
    MlpKind kind;
    const MlpCall* shared;  // all rows; its y is not used. Null: none
    int n_embd;
    int rows;
    Activations x;
    QuantizedRows quantized;
    Activations y;  // may be x
    ExpertRows memory;
    float* scratch;  // linear_scratch() floats for each thread
};

// y = the sum of a row's experts, each times its weight, in the order of choose_experts: one chain of fused
// multiply-adds from zero. So a row's result does not depend on those beside it.
void run_experts(const Kernels& kernels, Team& team, const ExpertsCall& call);

}  // namespace pygpt
