// KeyFeedback: keys are rounded where queries do not look.
#include "model/key_feedback.h"

#include <algorithm>
#include <cmath>

#include "model/forward.h"
#include "support_attention.h"
#include "support_engine.h"

namespace pygpt::test {
namespace {

constexpr int kWidth = 32;

// Biased queries and keys, two heads of queries for one of keys, whose first `turned` numbers turn.
struct Turned : SmallModel {
    explicit Turned(int kv_heads = 1, int width = kWidth, int turned = kWidth) {
        config.n_ctx = 20000;
        config.n_head = 2 * kv_heads;
        config.n_kv_head = kv_heads;
        config.head_dim = width;
        config.learned_positions = false;
        config.layers.assign(3, {.attn_scale = 0.3f, .rope = Rope{}});
        for (LayerConfig& layer : config.layers) {
            for (int i = 0; i < turned / 2; ++i) layer.rope->inv_freq.push_back(std::pow(1e-6, i * 2.0 / turned));
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

// Heads that are completed with zeros, of which a part turns or all.
TEST(KeyFeedback, OfAHeadIsThatOfItsOwnQueries) {
    for (const auto& [width, turned] : {std::pair{80, 32}, {10, 10}}) {
        const Turned model(2, width, turned);
        const std::vector<TensorSpec> specs = list_tensors(model.config);
        const int last = ceil_div(model.config.n_ctx, kSegmentPositions) - 1;
        const std::vector<float> expected = model.feedback(1, last, scalar_kernels());
        ASSERT_EQ(expected.size(), 2 * static_cast<std::size_t>(feedback_floats(width)));
        on_each_isa([&](const Kernels& k) { EXPECT_EQ(model.feedback(1, last, k, 3), expected); });
        for (const int changed : {1, 2}) {  // the last of the first head's queries, the first of the second's
            Turned other = model;
            for (std::size_t i = 0; i < specs.size(); ++i) {
                if (specs[i].name != "blocks.1.attn.q.bias") continue;
                for (int d = 0; d < width; ++d) other.values[i][static_cast<std::size_t>(changed * width + d)] += 3.0f;
            }
            const std::vector<float> found = other.feedback(1, last, best_kernels());
            for (const int head : {0, 1}) {
                const std::ptrdiff_t at = std::ptrdiff_t{head} * feedback_floats(width);
                EXPECT_EQ(
                    std::equal(found.begin() + at, found.begin() + at + feedback_floats(width), expected.begin() + at),
                    head != changed / 2);
            }
        }
    }
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
double squared_errors(int width, const std::vector<double>& query, const float* feedback) {
    const CacheFormat& format = scalar_kernels().cache(DType::i8);
    const PageReader reader{format, width};
    const std::vector<float> keys = Random(3).floats(kPagePositions * width);
    std::vector<std::byte> page(2 * format.head_bytes(width));
    format.store({keys.data(), keys.data(), width, kPagePositions, width, 0, nullptr, feedback, page.data(),
                  page.data() + format.head_bytes(width)});
    double sum = 0.0;
    for (int i = 0; i < kPagePositions; ++i) {
        const std::vector<double> found = reader.key(page.data(), i);
        const auto exact = rotated({keys.begin() + i * width, keys.begin() + (i + 1) * width}, false);
        double error = 0.0;
        for (std::size_t d = 0; d < found.size(); ++d) error += (found[d] - exact[d]) * query[d];
        sum += error * error;
    }
    return sum;
}

TEST(KeyFeedback, KeepsErrorsOutOfTheQueriesDirections) {
    for (const auto& [width, turned] : {std::pair{kWidth, kWidth}, {80, 32}}) {
        Turned model(2, width, turned);
        const std::vector<TensorSpec> specs = list_tensors(model.config);
        std::vector<double> bias;  // of the second head of keys
        for (std::size_t i = 0; i < specs.size(); ++i) {
            if (specs[i].name != "blocks.1.attn.q.bias") continue;
            const int slow = turned / 2 - 1;  // turns by 0.01 in a block
            for (int d = 0; d < 4 * width; ++d) {
                const bool stays = d % width < turned && d % width % (turned / 2) == slow;
                model.values[i][static_cast<std::size_t>(d)] *= stays ? 30.0f : 0.0f;
            }
            bias.assign(model.values[i].begin() + 2 * width, model.values[i].begin() + 3 * width);
        }
        ASSERT_FALSE(bias.empty());
        const std::vector<float> feedback = model.feedback(1, 0, best_kernels());
        const std::vector<double> query = rotated(bias, true);
        EXPECT_LT(squared_errors(width, query, feedback.data() + feedback_floats(width)),
                  0.1 * squared_errors(width, query, nullptr));
    }
}

}  // namespace
}  // namespace pygpt::test
