// The softmax over a vocabulary by blocks, and scores that are computed so.
#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "ops/head.h"
#include "support_engine.h"

namespace pygpt::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr std::array kLengths = {1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 100, 128, 129, 257};

// A block's sum is off by (8 + 5) eps, by 2 eps from exp, relative, and by x e^x <= 0.37 eps from the rounding of its
// arguments; the factor that it has among the others by as much as an exp, and all of them by (n / 2048 + 5) eps more.
// Each of the two subtractions and the logarithm's conversion rounds once.
TEST(LogSoftmax, IsRight) {
    for (const float range : {0.01f, 5.0f, 80.0f}) {
        for (const int n : {1, 2, 17, 1000, 50257}) {
            const std::vector<float> x = Random(10).floats(n, -range, range);
            std::vector<float> y(x.size());
            scalar_kernels().log_softmax(x.data(), y.data(), n);
            const double top = *std::max_element(x.begin(), x.end());
            long double sum = 0;
            for (const float v : x) sum += std::exp(static_cast<long double>(v) - top);
            const double log_sum = static_cast<double>(std::log(sum));
            for (std::size_t i = 0; i < x.size(); ++i) {
                const double shifted = static_cast<double>(x[i]) - top, exact = shifted - log_sum;
                const double bound = kEps * (n / 2048.0 + 24 + std::abs(shifted) + log_sum + std::abs(exact));
                ASSERT_NEAR(y[i], exact, bound) << n << " " << range;
            }
        }
    }
}

TEST(LogSoftmax, IsTheSameOnEveryInstructionSetAndInPlace) {
    on_each_isa([](const Kernels& k) {
        for (const int n : kLengths) {
            const std::vector<float> x = Random(11).floats(n, -20.0f, 20.0f);
            Guarded y(1, n, n), in_place(1, n, n), expected(1, n, n);
            k.log_softmax(x.data(), y.row(0), n);
            std::copy(x.begin(), x.end(), in_place.row(0));
            k.log_softmax(in_place.row(0), in_place.row(0), n);
            scalar_kernels().log_softmax(x.data(), expected.row(0), n);
            EXPECT_TRUE(same_bits(y.all(), expected.all())) << n;
            EXPECT_TRUE(same_bits(in_place.all(), expected.all())) << n;
            EXPECT_TRUE(y.intact());
        }
    });
}

TEST(LogSoftmax, AnImpossibleTokenIsMinusInfinity) {
    const std::vector<float> x = {1.0f, -kInf, 2.0f};
    std::vector<float> y(3);
    scalar_kernels().log_softmax(x.data(), y.data(), 3);
    EXPECT_EQ(y[1], -kInf);
    EXPECT_NEAR(y[0], -1.31326169, 1e-6);
}

TEST(LogSoftmax, ANanSpoilsTheWholeRow) {
    on_each_isa([](const Kernels& k) {
        for (const std::size_t at : {0u, 3u, 19u}) {
            std::vector<float> x = Random(12).floats(20);
            x[at] = std::numeric_limits<float>::quiet_NaN();
            k.log_softmax(x.data(), x.data(), 20);
            for (const float y : x) EXPECT_TRUE(std::isnan(y)) << "a probability of " << y << " beside a NaN at " << at;
        }
    });
}

TEST(LogSoftmax, BlocksOfImpossibleTokensAddNothing) {
    on_each_isa([](const Kernels& k) {
        std::vector<float> x = Random(13).floats(3 * kSoftmaxBlock + 5), some(x.begin(), x.begin() + kSoftmaxBlock);
        std::fill(x.begin() + kSoftmaxBlock, x.end(), -kInf);
        k.log_softmax(some.data(), some.data(), kSoftmaxBlock);
        k.log_softmax(x.data(), x.data(), static_cast<std::ptrdiff_t>(x.size()));
        EXPECT_TRUE(same_bits({x.data(), kSoftmaxBlock}, some));
        for (std::size_t i = kSoftmaxBlock; i < x.size(); ++i) EXPECT_EQ(x[i], -kInf);
        std::fill(x.begin(), x.end(), -kInf);
        k.log_softmax(x.data(), x.data(), static_cast<std::ptrdiff_t>(x.size()));
        EXPECT_TRUE(std::isnan(x[0]));
    });
}

TEST(LogSoftmax, IsWhatItsBlocksGive) {
    on_each_isa([](const Kernels& k) {
        for (const int n : {1, 15, 128, 129, 2048, 2049, 5000}) {
            const std::vector<float> x = Random(14).floats(n, -9.0f, 9.0f);
            const auto blocks = static_cast<std::size_t>(count_softmax_blocks(n));
            std::vector<float> y(x.size()), maxima(blocks + 1, 777.0f), sums(blocks + 1, 777.0f);
            k.log_softmax(x.data(), y.data(), n);
            k.softmax_blocks(x.data(), maxima.data(), sums.data(), n);
            EXPECT_EQ(maxima.back() + sums.back(), 2 * 777.0f);
            const SoftmaxSum sum = k.softmax_sum(maxima.data(), sums.data(), static_cast<std::ptrdiff_t>(blocks));
            EXPECT_EQ(sum.maximum, *std::max_element(x.begin(), x.end()));
            for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(y[i], x[i] - sum.maximum - sum.log_sum);
        }
    });
}

// --- Output::score ---------------------------------------------------------------------------------------------------

// What log_softmax makes of the logits before each token but the first, and whether it is the first of the greatest.
std::vector<float> expected_scores(const Engine& engine, const std::vector<int>& tokens) {
    std::vector<float> logits = outputs(engine, {engine.session().get(), tokens, Output::all}), scores;
    const std::ptrdiff_t width = engine.output_width(Output::all);
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
        float* const row = logits.data() + static_cast<std::ptrdiff_t>(i) * width;
        const bool likeliest = std::max_element(row, row + width) == row + tokens[i + 1];
        scalar_kernels().log_softmax(row, row, width);
        scores.insert(scores.end(), {row[tokens[i + 1]], likeliest ? 1.0f : 0.0f});
    }
    return scores;
}

std::vector<ModelConfig> vocabularies() {
    const auto sized = [](int n_vocab) {
        ModelConfig c = SmallModel().config;
        c.n_vocab = n_vocab;
        return c;
    };
    ModelConfig capped = sized(385);
    capped.logit_scale = 0.5f;
    capped.logit_cap = 2.0f;
    capped.head_bias = true;
    ModelConfig wide = sized(1000);
    wide.embed_dim = 44;
    return {sized(3), sized(128), sized(2049), capped, wide};
}

TEST(Scores, AreThoseOfTheLogits) {
    for (const ModelConfig& config : vocabularies()) {
        const auto values = random_tensors(config, 5);
        for (const DType dtype : {DType::f32, DType::bf16, DType::i8}) {
            on_each_isa([&](const Kernels& kernels) {
                for (const int threads : kSlow ? std::vector{3} : std::vector{1, 3}) {
                    const auto engine = build_engine(config, values, dtype, DType::f16, kernels, threads);
                    for (const int n : {1, 2, 11, 100, 290}) {
                        const std::vector<int> tokens = random_tokens(n, config.n_vocab, static_cast<unsigned>(n));
                        EXPECT_EQ(outputs(*engine, {engine->session().get(), tokens, Output::score}),
                                  expected_scores(*engine, tokens))
                            << config.n_vocab << " " << n;
                        if (&kernels == &scalar_kernels() && n == 11) break;  // slow
                    }
                }
            });
        }
    }
}

// From any token on, and all that may follow the last.
TEST(Scores, ContinueASession) {
    const SmallModel model;
    const auto engine = model.engine(2);
    const std::vector<int> tokens = model.tokens(299, 1);
    const std::vector<float> expected = expected_scores(*engine, tokens);
    for (const int begin : {1, 5, 256, 298}) {
        for (const int first : {0, 3, 257, 298 - begin}) {
            if (begin + first > 298) continue;
            const auto session = engine->session();
            const std::span<const int> all = tokens;
            outputs(*engine, {session.get(), all.first(static_cast<std::size_t>(begin)), Output::none});
            SequenceInput rest{session.get(), all.subspan(static_cast<std::size_t>(begin)), Output::score};
            rest.first = static_cast<std::size_t>(first);
            EXPECT_EQ(outputs(*engine, rest),
                      std::vector<float>(expected.begin() + kScoreWidth * (begin + first), expected.end()));
            EXPECT_EQ(session->length(), 299);
        }
    }
}

TEST(Scores, AreOfAllThatMayFollow) {
    const SmallModel model;
    const auto engine = model.engine(2);
    const std::vector<int> tokens = model.tokens(70, 1);
    std::vector<int> all(static_cast<std::size_t>(model.config.n_vocab));
    std::iota(all.begin(), all.end(), 0);
    const auto session = engine->session();
    SequenceInput input{session.get(), tokens, Output::score};
    input.first = 69;
    input.next = all;
    const std::vector<float> found = outputs(*engine, input);
    int likeliest = 0;
    for (const int token : all) {
        std::vector<int> longer = tokens;
        longer.push_back(token);
        const auto at = found.begin() + kScoreWidth * token;
        const std::vector<float> expected = expected_scores(*engine, longer);
        EXPECT_TRUE(std::equal(at, at + kScoreWidth, expected.end() - kScoreWidth)) << token;
        likeliest += at[1] == 1.0f;
    }
    EXPECT_EQ(likeliest, 1);
}

// Equal logits: two tokens whose rows of the head are alike, in one softmax block, in two, and not the greatest.
TEST(Scores, TheFirstOfEqualTokensIsTheLikeliest) {
    ModelConfig config = SmallModel().config;
    config.n_vocab = 300;
    config.head_bias = true;
    for (const auto& [low, high] : {std::pair{3, 100}, {100, 140}, {0, 299}}) {
        auto values = random_tensors(config, 5);
        std::size_t i = 0;
        for (const TensorSpec& t : list_tensors(config)) {
            if (t.name == "head.bias") {
                values[i].assign(values[i].size(), 0.0f);
                values[i][static_cast<std::size_t>(low)] = values[i][static_cast<std::size_t>(high)] = 1e9f;
            }
            ++i;
        }
        const auto engine = build_engine(config, values, DType::f32, DType::f32, best_kernels(), 2);
        const std::vector<int> tokens = random_tokens(5, config.n_vocab, 1), next{high, low, 1};
        const auto session = engine->session();
        SequenceInput input{session.get(), tokens, Output::score};
        input.first = 4;
        input.next = next;
        const std::vector<float> found = outputs(*engine, input);
        EXPECT_EQ(found[0], found[2]);
        EXPECT_EQ((std::vector<float>{found[1], found[3], found[5]}), (std::vector<float>{0.0f, 1.0f, 0.0f}));
    }
}

}  // namespace
}  // namespace pygpt::test
