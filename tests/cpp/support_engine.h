// Engines of random weights for the tests.
#pragma once

#include <memory>
#include <vector>

#include "model/engine.h"
#include "support.h"

namespace pygpt::test {

inline std::vector<int> random_tokens(int n, int n_vocab, unsigned seed) {
    Random random(seed);
    std::vector<int> out(static_cast<std::size_t>(n));
    for (int& t : out) t = random.below(n_vocab);
    return out;
}

// One after the other as list_tensors names them.
inline std::vector<std::vector<float>> random_tensors(const ModelConfig& config, unsigned seed) {
    std::vector<std::vector<float>> values;
    for (const TensorSpec& t : list_tensors(config)) {
        values.push_back(Random(seed++).floats(static_cast<std::ptrdiff_t>(t.rows) * t.cols, -0.3f, 0.3f));
    }
    return values;
}

inline std::shared_ptr<Engine> build_engine(const ModelConfig& config, const std::vector<std::vector<float>>& values,
                                            DType dtype, DType kv, const Kernels& kernels, int threads) {
    const auto shared = std::make_shared<const Threads>(threads);
    WeightsBuilder builder(config, kernels, kernels.format(dtype));
    std::size_t i = 0;
    for (const TensorSpec& t : list_tensors(config)) {
        const Plain plain{values[i++].data(), DType::f32, t.rows, t.cols, t.cols, 1};
        shared->run([&](Team& team) { builder.add(t.name, plain, team); });
    }
    return std::make_shared<Engine>(config, builder.finish(), kernels, shared, kv);
}

// A configuration and all its tensors, so that an engine can be made again and again.
struct SmallModel {
    ModelConfig config;
    std::vector<std::vector<float>> values;

    SmallModel() {
        config.n_vocab = 61;
        config.n_ctx = 300;
        config.n_embd = 24;
        config.n_head = 4;
        config.n_kv_head = 2;
        config.head_dim = 6;
        config.n_inner = 40;
        config.norm_eps = 1e-5f;
        config.activation = Activation::silu;
        config.gated_mlp = config.qkv_bias = config.learned_positions = true;
        config.layers.assign(2, {.attn_scale = 0.3f});
        values = random_tensors(config, 1);
    }

    std::shared_ptr<Engine> engine(int threads) const {
        return build_engine(config, values, DType::i8, DType::f16, best_kernels(), threads);
    }

    std::vector<int> tokens(int n, unsigned seed) const { return random_tokens(n, config.n_vocab, seed); }
};

// Memory for the output of a sequence.
inline std::vector<float> room(const Engine& engine, const SequenceInput& s) {
    return std::vector<float>(output_rows(s) * static_cast<std::size_t>(engine.output_width(s.output)));
}

// The output of a sequence by itself.
inline std::vector<float> outputs(const Engine& engine, SequenceInput s) {
    std::vector<float> out = room(engine, s);
    s.out = out.data();
    engine.forward({&s, 1}, [] {});
    return out;
}

// The logits of the last token.
inline std::vector<float> append(const Engine& engine, Session& session, const std::vector<int>& tokens) {
    return outputs(engine, {&session, tokens, Output::last});
}

}  // namespace pygpt::test
