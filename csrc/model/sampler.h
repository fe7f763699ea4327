// Draws the next token from logits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "kernels/table.h"
#include "threads/parallel.h"

namespace pygpt {

// What pygpt.SamplingParams says of the draw, by the same names; it has checked the values.
struct SamplerOptions {
    double temperature = 1.0;  // 0: the most likely token, the lowest id of equals
    std::optional<int> top_k;
    std::optional<double> top_p;
    std::optional<double> min_p;
    double repetition_penalty = 1.0;
    double presence_penalty = 0.0;
    double frequency_penalty = 0.0;
    std::map<int, double> logit_bias;
    std::uint64_t seed = 0;
};

// visit(name, value) for each field.
template <class Options, class Visit>
void visit_fields(Options& o, Visit&& visit) {
    visit("temperature", o.temperature);
    visit("top_k", o.top_k);
    visit("top_p", o.top_p);
    visit("min_p", o.min_p);
    visit("repetition_penalty", o.repetition_penalty);
    visit("presence_penalty", o.presence_penalty);
    visit("frequency_penalty", o.frequency_penalty);
    visit("logit_bias", o.logit_bias);
    visit("seed", o.seed);
}

// 64 random bits for a counter: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
std::uint64_t philox(std::uint64_t key, std::uint64_t counter_low, std::uint64_t counter_high);

class Sampler {
public:
    explicit Sampler(const SamplerOptions& options) : options_(options) {}

    // One token id. In this order: repetition penalty (Keskar et al. 2019, arXiv:1909.05858) on the ids in `history`,
    // presence and frequency penalty (OpenAI's API: taken off once, and for each time) on those after the first
    // `n_prompt`, biases, the mask, temperature, top-k, top-p (Holtzman et al. 2020, arXiv:1904.09751; keeps the token
    // that crosses p), min-p (Nguyen et al. 2024, arXiv:2407.01082). The draw depends on (seed, sequence, position)
    // alone. `mask` has a bit a token, from each word's lowest on: 0 forbids it; an empty one forbids none.
    // Logits of +infinity share all of the probability. InvalidArgument: a logit that is NaN, a mask that forbids all.
    int draw(const Kernels& kernels, std::span<const float> logits, std::span<const std::int32_t> history,
             std::size_t n_prompt, std::uint64_t sequence, std::uint64_t position,
             std::span<const std::uint32_t> mask = {}) const;

private:
    // What the options and the mask make of the logits; empty: nothing.
    std::vector<float> changed(std::span<const float> logits, std::span<const std::int32_t> history,
                               std::size_t n_prompt, std::span<const std::uint32_t> mask) const;

    SamplerOptions options_;
};

// A token to be drawn: what Sampler::draw takes.
struct Draw {
    const Sampler* sampler;
    std::span<const float> logits;
    std::span<const std::int32_t> history;
    std::size_t n_prompt;
    std::uint64_t sequence, position;
    std::span<const std::uint32_t> mask;
};

// The token of each of the draws, which threads share.
void draw_all(const Kernels& kernels, const Threads& threads, std::span<const Draw> draws, std::span<int> tokens);

}  // namespace pygpt
