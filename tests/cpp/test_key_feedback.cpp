// KeyFeedback: keys are rounded where queries do not look.
#include "model/key_feedback.h"

#include <cstring>

#include "model/forward.h"
#include "support_attention.h"
#include "support_engine.h"

namespace pygpt::test {
namespace {

constexpr int kWidth = 32;

// Biased queries and keys of two heads for one of each, which turn.
struct Turned : SmallModel {
    Turned() {
        config.n_ctx = 20000;
        config.n_head = 2;
        config.n_kv_head = 1;
        config.head_dim = kWidth;
        config.learned_positions = false;
        config.layers.assign(3, {.attn_scale = 0.3f, .rope = Rope{}});
        for (LayerConfig& layer : config.layers) {
            for (int i = 0; i < kWidth / 2; ++i) layer.rope->inv_freq.push_back(std::pow(1e-6, i * 2.0 / kWidth));
        }
        fill();
    }

    void fill() { values = random_tensors(config, 5); }

    // What stands at (segment, number) of a layer, or nothing.
    std::vector<float> feedback(int layer, int segment, const Kernels& kernels, int threads = 1,
                                DType kv = DType::i8) const {
        WeightsBuilder builder(config, kernels, kernels.format(DType::i8));
        std::vector<float> out;
        Threads(threads).run([&](Team& team) {
            std::size_t i = 0;
            for (const TensorSpec& t : list_tensors(config))
                builder.add(t.name, {values[i++].data(), DType::f32, t.rows, t.cols, t.cols, 1}, team);
            const Weights weights = builder.finish();
            const PageLayout layout(config, kernels.cache(kv), kernels.cache(DType::f16));
            const DistinctRopes ropes(config);
            const KeyFeedback feedback({config, weights, kernels, layout, {}, {}, ropes, team});
            const float* const at = feedback.at(layer, segment);
            if (at != nullptr) out.assign(at, at + config.n_kv_head * feedback_floats(config.head_dim));
        });
        return out;
    }
};

TEST(KeyFeedback, IsTheSameForAnyThreadsAndOnEveryInstructionSet) {
    const Turned model;
    const std::vector<float> expected = model.feedback(1, 5, scalar_kernels());
    ASSERT_EQ(expected.size(), std::size_t{kWidth * kWidth});
    for (int i = 0; i < kWidth; ++i) {
        for (int j = 0; j <= i; ++j) EXPECT_EQ(expected[static_cast<std::size_t>(i * kWidth + j)], 0.0f);
    }
    on_each_isa([&](const Kernels& k) { EXPECT_EQ(model.feedback(1, 5, k, 3), expected); });
    EXPECT_EQ(model.feedback(1, 15, scalar_kernels()), expected);
    EXPECT_NE(model.feedback(1, 16, scalar_kernels()), expected);  // of other positions
    EXPECT_NE(model.feedback(2, 5, scalar_kernels()), expected);
}

TEST(KeyFeedback, IsOfKeysInInt8ThatKeepABiasAndTurn) {
    const Kernels& k = best_kernels();
    Turned model;
    EXPECT_TRUE(model.feedback(0, 0, k).empty());  // a first layer, which stays in float16
    EXPECT_TRUE(model.feedback(1, 0, k, 1, DType::f16).empty());
    model.config.layers[1].rope.reset();
    EXPECT_TRUE(model.feedback(1, 0, k).empty());
    EXPECT_FALSE(model.feedback(2, 0, k).empty());
    model.config.qk_norm = QkNorm::head;
    model.fill();
    EXPECT_TRUE(model.feedback(2, 0, k).empty());
    model.config.qk_norm.reset();
    model.config.qkv_bias = false;
    model.fill();
    EXPECT_TRUE(model.feedback(2, 0, k).empty());
}

// The sum of the squares of what rounding adds to the products of random keys, at one position, with a query.
double squared_errors(const std::vector<double>& query, const float* feedback) {
    const CacheFormat& format = scalar_kernels().cache(DType::i8);
    const PageReader reader{format, kWidth};
    const std::vector<float> keys = Random(3).floats(kPagePositions * kWidth);
    std::vector<std::byte> page(2 * format.head_bytes(kWidth));
    format.store({keys.data(), keys.data(), kWidth, kPagePositions, kWidth, 0, nullptr, feedback, page.data(),
                  page.data() + format.head_bytes(kWidth)});
    double sum = 0.0;
    for (int i = 0; i < kPagePositions; ++i) {
        const std::vector<double> found = reader.key(page.data(), i);
        const auto exact = rotated({keys.begin() + i * kWidth, keys.begin() + (i + 1) * kWidth}, false);
        double error = 0.0;
        for (std::size_t d = 0; d < found.size(); ++d) error += (found[d] - exact[d]) * query[d];
        sum += error * error;
    }
    return sum;
}

TEST(KeyFeedback, KeepsErrorsOutOfTheQueriesDirections) {
    Turned model;
    const std::vector<TensorSpec> specs = list_tensors(model.config);
    std::vector<double> bias;
    for (std::size_t i = 0; i < specs.size(); ++i) {
        if (specs[i].name != "blocks.1.attn.q.bias") continue;
        for (float& x : model.values[i]) x *= 30.0f;
        const int slow = kWidth / 2 - 1;  // turns by 0.01 in a block
        for (int d = 0; d < 2 * kWidth; ++d) {
            if (d % kWidth % (kWidth / 2) != slow) model.values[i][static_cast<std::size_t>(d)] = 0.0f;
        }
        bias.assign(model.values[i].begin(), model.values[i].begin() + kWidth);
    }
    ASSERT_FALSE(bias.empty());
    const std::vector<float> feedback = model.feedback(1, 0, best_kernels());
    const std::vector<double> query = rotated(bias, true);
    EXPECT_LT(squared_errors(query, feedback.data()), 0.1 * squared_errors(query, nullptr));
}

}  // namespace
}  // namespace pygpt::test
