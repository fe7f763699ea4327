// The choice of experts: by score, of equal ones the first; weights by softmax; NaN stays NaN.
#include "ops/experts.h"

#include <limits>

#include "support.h"
#include "support_engine.h"

namespace pygpt::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<Choice> choose(const Kernels& kernels, const Routing& routing, std::vector<float> scores) {
    std::vector<float> exps(scores.size());
    std::vector<Choice> out(static_cast<std::size_t>(routing.n_active()));
    choose_experts(kernels, routing, scores.data(), exps.data(), out.data());
    return out;
}

std::vector<int> experts(const std::vector<Choice>& choice) {
    std::vector<int> out;
    for (const Choice& c : choice) out.push_back(c.expert);
    return out;
}

TEST(Experts, AreChosenByScore) {
    on_each_isa([&](const Kernels& kernels) {
        const auto found = choose(kernels, {5, 3, true, false, false}, {0.5f, 2.0f, -1.0f, 2.0f, 1.0f});
        EXPECT_EQ(experts(found), (std::vector<int>{1, 3, 4}));
        EXPECT_EQ(found[0].weight, found[1].weight);
        EXPECT_EQ(experts(choose(kernels, {4, 4, false, false, false}, {0, 0, 0, 0})), (std::vector<int>{0, 1, 2, 3}));
        EXPECT_EQ(experts(choose(kernels, {3, 2, false, false, false}, {-kInf, -kInf, 0})), (std::vector<int>{2, 0}));
    });
}

TEST(Experts, WeightsAreASoftmax) {
    for (const bool normalized : {true, false}) {
        for (const unsigned seed : {1u, 2u, 3u}) {
            const int n = 37, used = 5;
            const std::vector<float> scores = Random(seed).floats(n, -4.0f, 4.0f);
            const auto expected = choose(scalar_kernels(), {n, used, normalized, false, false}, scores);
            double all = 0.0, chosen = 0.0;
            for (const float s : scores) all += std::exp(static_cast<double>(s));
            for (const Choice& c : expected) chosen += std::exp(static_cast<double>(scores.data()[c.expert]));
            for (const Choice& c : expected) {
                const double exact =
                    std::exp(static_cast<double>(scores.data()[c.expert])) / (normalized ? chosen : all);
                // Numerator and denominator: exp's 2 eps each and the difference's, which is at most 8 eps; the sum's
                // n eps, and the quotient's.
                EXPECT_NEAR(c.weight, exact, exact * (2 * (2 + 8) + n + 1) * kEps);
            }
            on_each_isa([&](const Kernels& kernels) {
                const auto found = choose(kernels, {n, used, normalized, false, false}, scores);
                for (std::size_t i = 0; i < found.size(); ++i) {
                    EXPECT_EQ(found[i].expert, expected[i].expert);
                    EXPECT_TRUE(same(found[i].weight, expected[i].weight));
                }
            });
        }
    }
}

TEST(Experts, TheSharedOneComesLast) {
    const Routing plain{2, 1, true, true, false}, gated{2, 1, true, true, true};
    EXPECT_EQ(experts(choose(best_kernels(), plain, {1, 2})), (std::vector<int>{1, 2}));
    EXPECT_EQ(choose(best_kernels(), plain, {1, 2})[1].weight, 1.0f);
    for (const float score : {-200.0f, -3.0f, -0.0f, 0.5f, 200.0f}) {
        const double exact = 1.0 / (1.0 + std::exp(-static_cast<double>(score)));
        const float found = choose(best_kernels(), gated, {1, 2, score})[1].weight;
        EXPECT_NEAR(found, exact, exact * 5 * kEps + 1e-37) << score;
    }
}

TEST(Experts, NaNStaysNaN) {
    for (const bool normalized : {true, false}) {
        for (const std::vector<float>& scores :
             {std::vector<float>{kNaN, kNaN, kNaN}, {0, kNaN, 1}, {kNaN, 1, 0}, {kInf, 1, 0}}) {
            for (const Choice& c : choose(best_kernels(), {3, 2, normalized, false, false}, scores)) {
                EXPECT_TRUE(0 <= c.expert && c.expert < 3);
                EXPECT_TRUE(std::isnan(c.weight));
            }
        }
    }
}

// A step of many rows gives each what it gets alone, and all of it lies in the memory that was laid out.
TEST(Experts, OfManyRowsAreThoseOfEach) {
    ModelConfig config = SmallModel().config;
    LayerConfig layer{.attn_scale = 0.3f};
    layer.experts = Experts{.n_expert = 5, .n_used = 2, .n_inner = 150, .router_bias = true};
    config.layers.assign(3, layer);
    config.layers[1].experts =
        Experts{.n_expert = 3, .n_used = 3, .n_inner = 20, .normalized = true, .shared_inner = 90, .shared_gate = true};
    config.layers[2].experts.reset();
    const std::vector<int> tokens = random_tokens(290, config.n_vocab, 4);
    for (const bool gated : {true, false}) {
        config.gated_mlp = gated;
        const auto values = random_tensors(config, 9);
        for (const DType dtype : {DType::f32, DType::bf16, DType::i8}) {
            const auto engine = build_engine(config, values, dtype, DType::f16, best_kernels(), 3);
            std::vector<float> all(tokens.size() * static_cast<std::size_t>(config.n_vocab));
            const auto session = engine->session();
            const SequenceInput input{session.get(), tokens, Output::all, all.data()};
            engine->forward({&input, 1}, [] {});
            const auto one = engine->session();
            for (std::size_t i = 0; i < 40; ++i) {
                const std::vector<float> logits = append(*engine, *one, {tokens[i]});
                const auto* const wanted = all.data() + i * static_cast<std::size_t>(config.n_vocab);
                ASSERT_TRUE(same_bits(logits, {wanted, logits.size()})) << i;
            }
        }
    }
}

}  // namespace
}  // namespace pygpt::test
