#include "ops/experts.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace pygpt {

void choose_experts(const Kernels& kernels, const Routing& r, float* scores, float* exps, Choice* to) {
    constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
    const float top = *std::max_element(scores, scores + r.n_expert);
    for (int i = 0; i < r.n_expert; ++i) exps[i] = scores[i] - top;
    kernels.exp(exps, exps, r.n_expert);
    float all = 0.0f, chosen = 0.0f;
    for (int i = 0; i < r.n_expert; ++i) all += exps[i];
    for (int n = 0; n < r.n_used; ++n) {
        int best = -1;
        for (int i = 0; i < r.n_expert; ++i) {
            if (scores[i] == scores[i] && (best < 0 || scores[i] > scores[best])) best = i;
        }
        if (best < 0) {  // the scores were NaN, and so is the sum
            to[n] = {0, kNaN};
            continue;
        }
        to[n] = {best, exps[best]};
        chosen += exps[best];
        scores[best] = kNaN;
    }
    const float sum = all != all ? all : r.normalized ? chosen : all;
    for (int n = 0; n < r.n_used; ++n) to[n].weight /= sum;
    if (!r.shared) return;
    float weight = 1.0f;
    if (r.shared_gate) {
        const float score = scores[r.n_expert];
        float e = -std::fabs(score);
        kernels.exp(&e, &e, 1);
        weight = (score < 0.0f ? e : 1.0f) / (1.0f + e);
    }
    to[r.n_used] = {r.n_expert, weight};
}

namespace {

// Sorts the chosen by expert. The shared expert's rows follow all others.
void sort_choices(const ExpertsCall& c) {
    const ExpertRows& m = c.memory;
    const int active = c.routing.n_active(), used = c.routing.n_used;
    std::fill(m.begin.begin(), m.begin.end(), 0);
    const auto each = [&](auto body) {
        for (int row = 0; row < c.rows; ++row) {
            for (int n = 0; n < used; ++n) {
                const auto at = static_cast<std::size_t>(row * active + n);
                body(at, static_cast<std::size_t>(m.choices[at].expert));
            }
        }
    };
    each([&](std::size_t, std::size_t expert) { ++m.begin[expert + 1]; });
    for (std::size_t i = 1; i < m.begin.size(); ++i) m.begin[i] += m.begin[i - 1];
    // While places are given out, begin[e] is where expert e's next row goes, which ends where the next one's begin.
    each([&](std::size_t at, std::size_t expert) { m.places[at] = m.begin[expert]++; });
    for (std::size_t i = m.begin.size() - 1; i > 0; --i) m.begin[i] = m.begin[i - 1];
    m.begin[0] = 0;
    if (!c.routing.shared) return;
    for (int row = 0; row < c.rows; ++row)
        m.places[static_cast<std::size_t>(row * active + used)] = c.rows * used + row;
}

void copy_quantized(const QuantizedRows& from, int k, const QuantizedRows& to) {
    std::copy_n(from.q, padded_inputs(k), to.q);
    for (int g = 0; g < int8_groups(k); ++g) {
        to.scales[g * to.ldg] = from.scales[g * from.ldg];
        to.sums[g * to.ldg] = from.sums[g * from.ldg];
    }
}

// The calls of the experts that were chosen.
std::vector<MlpCall> calls_of(const ExpertsCall& c) {
    const ExpertRows& m = c.memory;
    std::vector<MlpCall> calls;
    calls.reserve(c.experts.size() + 1);
    for (std::size_t e = 0; e < c.experts.size(); ++e) {
        const int first = m.begin[e], rows = m.begin[e + 1] - first;
        if (rows == 0) continue;
        calls.push_back({c.experts[e], c.n_inner, rows, m.x.from(first), m.quantized.at(first, 0), m.up.from(first),
                         m.inner.from(first), m.prepared.at(first, 0), m.y.from(first)});
    }
    return calls;
}

// Copies the chosen experts' inputs, in the forms that they read.
void gather(Team& team, const ExpertsCall& c, std::span<const MlpCall> calls) {
    const ExpertRows& m = c.memory;
    const auto prepares = [](const MlpCall& call) { return call.weights.up.weight.format().prepare != nullptr; };
    const bool quantized = std::any_of(calls.begin(), calls.end(), prepares);
    const bool plain = !std::all_of(calls.begin(), calls.end(), prepares);
    for_rows(team, c.rows, [&](int row) {
        for (int n = 0; n < c.routing.n_used; ++n) {
            const int place = m.places[static_cast<std::size_t>(row * c.routing.n_active() + n)];
            if (plain) std::copy_n(c.x.row(row), c.n_embd, m.x.row(place));
            if (quantized) copy_quantized(c.quantized.at(row, 0), c.n_embd, m.quantized.at(place, 0));
        }
    });
}

}  // namespace

void run_experts(const Kernels& kernels, Team& team, const ExpertsCall& c) {
    const ExpertRows& m = c.memory;
    const int active = c.routing.n_active();
    linear(
        team,
        {c.router.weight, c.router.bias_or_null(), c.x.data, c.x.stride, {}, c.rows, m.scores.data, m.scores.stride});
    for_rows(team, c.rows, [&](int row) {
        choose_experts(kernels, c.routing, m.scores.row(row), m.exps.row(row),
                       &m.choices[static_cast<std::size_t>(row * active)]);
    });
    sort_choices(c);
    std::vector<MlpCall> calls = calls_of(c);
    gather(team, c, calls);
    if (c.shared != nullptr) {
        const MlpCall& s = *c.shared;
        calls.push_back({s.weights, s.n_inner, s.rows, s.x, s.quantized, s.up, s.inner, s.prepared,
                         m.y.from(c.rows * c.routing.n_used)});
    }
    run_mlps(kernels, team, c.kind, calls, c.scratch);
    for_rows(team, c.rows, [&](int row) {
        float* const y = c.y.row(row);
        std::fill_n(y, c.n_embd, 0.0f);
        for (int n = 0; n < active; ++n) {
            const auto at = static_cast<std::size_t>(row * active + n);
            kernels.add(y, m.y.row(m.places[at]), m.choices[at].weight, c.n_embd);
        }
    });
}

}  // namespace pygpt
