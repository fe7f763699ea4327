// Small engines for the tests of what happens around a computation.
#pragma once

#include <memory>
#include <vector>

#include "model/engine.h"
#include "support.h"

namespace pygpt::test {

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
        unsigned seed = 1;
        for (const TensorSpec& t : list_tensors(config)) {
            values.push_back(Random(seed++).floats(static_cast<std::ptrdiff_t>(t.rows) * t.cols, -0.3f, 0.3f));
        }
    }

    std::shared_ptr<Engine> engine(int threads) const {
        const Threads loading(threads);
        WeightsBuilder builder(config, DType::i8, best_kernels());
        std::size_t i = 0;
        for (const TensorSpec& t : list_tensors(config)) {
            const Plain plain{values[i++].data(), DType::f32, t.rows, t.cols, t.cols, 1};
            loading.run([&](Team& team) { builder.add(t.name, plain, team); });
        }
        return std::make_shared<Engine>(config, builder.finish(), best_kernels(), threads, DType::f16);
    }

    std::vector<int> tokens(int n, unsigned seed) const {
        Random random(seed);
        std::vector<int> out(static_cast<std::size_t>(n));
        for (int& t : out) t = random.below(config.n_vocab);
        return out;
    }
};

// The logits of the last token.
inline std::vector<float> append(const Engine& engine, Session& session, const std::vector<int>& tokens) {
    std::vector<float> out(static_cast<std::size_t>(engine.output_width(Output::last)));
    const SequenceInput input{&session, tokens, Output::last, out.data()};
    engine.forward({&input, 1}, [] {});
    return out;
}

}  // namespace pygpt::test
