// The random numbers and the sampler.
#include "model/sampler.h"

#include <array>
#include <limits>
#include <map>
#include <set>

#include "base/error.h"
#include "support.h"

namespace pygpt::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

int draw(const SamplerOptions& options, const std::vector<float>& logits, std::uint64_t position = 0,
         const std::vector<std::int32_t>& history = {}, std::uint64_t sequence = 0) {
    return Sampler(options).draw(best_kernels(), logits, history, 0, sequence, position);
}

std::map<int, int> counts(const SamplerOptions& options, const std::vector<float>& logits, int draws,
                          const std::vector<std::int32_t>& history = {}) {
    std::map<int, int> out;
    for (int i = 0; i < draws; ++i) ++out[draw(options, logits, static_cast<std::uint64_t>(i), history)];
    return out;
}

std::set<int> reached(const SamplerOptions& options, const std::vector<float>& logits,
                      const std::vector<std::int32_t>& history = {}, int draws = 3000) {
    std::set<int> out;
    for (const auto& [id, n] : counts(options, logits, draws, history)) out.insert(id);
    return out;
}

std::vector<float> logs(const std::vector<double>& probabilities) {
    std::vector<float> out;
    for (const double p : probabilities)
        out.push_back(static_cast<float>(std::log(p)) + 3.0f);  // logits have any offset
    return out;
}

// Each count within five standard deviations of what its probability promises; the draws are always the same ones.
void expect_shares(const std::map<int, int>& found, const std::map<int, double>& probabilities, int draws) {
    double total = 0.0;
    for (const auto& [id, p] : probabilities) total += p;
    for (const auto& [id, n] : found) ASSERT_TRUE(probabilities.contains(id)) << "drew " << id;
    for (const auto& [id, p] : probabilities) {
        const double share = p / total, sigma = std::sqrt(draws * share * (1 - share));
        EXPECT_NEAR(found.contains(id) ? found.at(id) : 0, draws * share, 5 * sigma) << "id " << id;
    }
}

// The published vectors of the authors' library (Random123, kat_vectors: philox4x32, 10 rounds); the first two words.
TEST(Philox, GivesItsKnownAnswers) {
    EXPECT_EQ(philox(0, 0, 0), 0xe169c58d6627e8d5u);
    EXPECT_EQ(philox(~0ull, ~0ull, ~0ull), 0x41c83b0e408f276du);
    EXPECT_EQ(philox(0x299f31d0a4093822u, 0x85a308d3243f6a88u, 0x0370734413198a2eu), 0x94fdccebd16cfe09u);
}

TEST(Sampler, TemperatureZeroTakesTheLowestOfTheBest) {
    EXPECT_EQ(draw({.temperature = 0.0}, {1.0f, 3.0f, 2.0f, 3.0f}), 1);
    EXPECT_EQ(draw({.top_k = 1}, {-5.0f, -7.0f, -5.0f}), 0);
    EXPECT_EQ(draw({.temperature = 0.0}, {-kInf, -kInf, 0.0f}), 2);
}

TEST(Sampler, DrawsDependOnSeedSequenceAndPositionAlone) {
    const std::vector<float> logits = Random(70).floats(1000, -2.0f, 2.0f);
    const SamplerOptions options{.seed = 5};
    const int first = draw(options, logits, 9, {}, 2);
    for (int i = 0; i < 20; ++i) draw(options, logits, static_cast<std::uint64_t>(i));
    EXPECT_EQ(draw(options, logits, 9, {}, 2), first);
    EXPECT_EQ(draw(options, logits, 9, {1, 2, 3}, 2), first);  // no penalty: no memory
    std::set<int> by_position, by_sequence, by_seed;
    for (std::uint64_t i = 0; i < 50; ++i) {
        by_position.insert(draw(options, logits, i, {}, 2));
        by_sequence.insert(draw(options, logits, 9, {}, i));
        by_seed.insert(draw({.seed = i}, logits, 9, {}, 2));
    }
    EXPECT_GT(by_position.size(), 40u);
    EXPECT_GT(by_sequence.size(), 40u);
    EXPECT_GT(by_seed.size(), 40u);
}

TEST(Sampler, EveryInstructionSetDrawsTheSame) {
    const std::vector<float> logits = Random(71).floats(50257, -6.0f, 6.0f);
    for (const SamplerOptions& options :
         {SamplerOptions{}, SamplerOptions{.temperature = 0.7, .top_k = 50, .top_p = 0.9},
          SamplerOptions{.top_p = 0.999, .min_p = 0.001, .repetition_penalty = 1.3},
          SamplerOptions{.presence_penalty = 0.5, .frequency_penalty = 0.3, .logit_bias = {{40000, 2.5}}}}) {
        for (std::uint64_t position = 0; position < 10; ++position) {
            const std::vector<std::int32_t> history = {3, 77, 40000};
            const int expected = Sampler(options).draw(scalar_kernels(), logits, history, 1, 1, position);
            on_each_isa([&](const Kernels& k) {
                EXPECT_EQ(Sampler(options).draw(k, logits, history, 1, 1, position), expected);
            });
        }
    }
}

TEST(Sampler, FollowsTheProbabilities) {
    const std::vector<float> logits = logs({0.5, 0.3, 0.15, 0.05});
    constexpr int kDraws = 20000;
    expect_shares(counts({}, logits, kDraws), {{0, 0.5}, {1, 0.3}, {2, 0.15}, {3, 0.05}}, kDraws);
    expect_shares(counts({.temperature = 0.5}, logits, kDraws), {{0, 0.25}, {1, 0.09}, {2, 0.0225}, {3, 0.0025}},
                  kDraws);
    expect_shares(counts({.top_k = 2}, logits, kDraws), {{0, 0.5}, {1, 0.3}}, kDraws);
    expect_shares(counts({.top_p = 0.9}, logits, kDraws), {{0, 0.5}, {1, 0.3}, {2, 0.15}}, kDraws);
    expect_shares(counts({.min_p = 0.2}, logits, kDraws), {{0, 0.5}, {1, 0.3}, {2, 0.15}}, kDraws);
}

TEST(Sampler, FollowsTheProbabilitiesOfALargeVocabulary) {
    constexpr int kDraws = kSlow ? 2000 : 20000, kGroup = 90, kTokens = 1000;
    const std::vector<float> logits = Random(74).floats(kTokens, -4.0f, 4.0f);
    for (const double temperature : {1.0, 0.4}) {
        std::map<int, double> probabilities;
        for (int i = 0; i < kTokens; ++i)
            probabilities[i / kGroup] +=
                std::exp(static_cast<double>(logits[static_cast<std::size_t>(i)]) / temperature);
        for (const SamplerOptions& options :
             {SamplerOptions{.temperature = temperature}, SamplerOptions{.temperature = temperature, .min_p = 0.0}}) {
            std::map<int, int> groups;
            for (const auto& [id, n] : counts(options, logits, kDraws)) groups[id / kGroup] += n;
            expect_shares(groups, probabilities, kDraws);
        }
    }
}

TEST(Sampler, SeveralDrawsAreThoseOfEach) {
    const Threads threads(3);
    const Sampler warm({}), greedy({.temperature = 0.0}), narrow({.top_p = 0.5, .seed = 3});
    const std::vector<const Sampler*> samplers = {&warm, &greedy, &narrow};
    const std::vector<std::int32_t> history = {5, 6};
    for (const int count : {0, 1, 3, 4, 40}) {
        const auto n = static_cast<std::size_t>(count);
        std::vector<std::vector<float>> logits;
        for (int i = 0; i < count; ++i)
            logits.push_back(Random(static_cast<unsigned>(100 + i)).floats(600 + i, -3.0f, 3.0f));
        std::vector<Draw> draws;
        for (std::size_t i = 0; i < n; ++i) draws.push_back({samplers[i % 3], logits[i], history, 1, i, 7, {}});
        std::vector<int> tokens(n);
        draw_all(best_kernels(), threads, draws, tokens);
        for (std::size_t i = 0; i < n; ++i)
            EXPECT_EQ(tokens[i], samplers[i % 3]->draw(best_kernels(), logits[i], history, 1, i, 7))
                << i << " of " << n;
        if (n > 0) {
            logits.back()[3] = std::numeric_limits<float>::quiet_NaN();
            EXPECT_THROW(draw_all(best_kernels(), threads, draws, tokens), InvalidArgument);
        }
    }
}

TEST(Sampler, TopPKeepsTheTokenThatCrosses) {
    const std::vector<float> logits = logs({0.05, 0.5, 0.15, 0.3});
    EXPECT_EQ(reached({.top_p = 0.01}, logits), (std::set{1}));
    EXPECT_EQ(reached({.top_p = 0.49}, logits), (std::set{1}));
    EXPECT_EQ(reached({.top_p = 0.51}, logits), (std::set{1, 3}));
    EXPECT_EQ(reached({.top_p = 0.81}, logits), (std::set{1, 2, 3}));
    EXPECT_EQ(reached({.top_p = 1.0}, logits), (std::set{0, 1, 2, 3}));
    EXPECT_EQ(reached({.top_k = 3, .top_p = 0.85}, logits), (std::set{1, 2, 3}));
    EXPECT_EQ(reached({.top_k = 3, .top_p = 0.83}, logits), (std::set{1, 3}));  // 0.8 / 0.95 of what top-k left
}

TEST(Sampler, EqualsAreRankedById) {
    const std::vector<float> flat(300, 1.5f);
    const std::set<int> found = reached({.top_k = 100}, flat);
    EXPECT_EQ(found.size(), 100u);
    EXPECT_EQ(*found.rbegin(), 99);
}

TEST(Sampler, FiltersFindTheRightCandidatesInALargeVocabulary) {
    const std::vector<float> logits = Random(72).floats(2000, -1.0f, 1.0f);
    std::vector<int> order(logits.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits.data()[a] > logits.data()[b]; });
    for (const int kept : {2, 63, 64, 65, 257, 1500}) {
        const std::set<int> allowed(order.begin(), order.begin() + kept);
        const std::set<int> found = reached({.top_k = kept}, logits, {}, kSlow && kept > 65 ? 300 : 3000);
        for (const int id : found) ASSERT_TRUE(allowed.contains(id)) << kept;
        if (kept <= 65) {
            EXPECT_EQ(found, allowed);
        }
    }
}

TEST(Sampler, RepetitionPenaltyAppliesOnceToEachId) {
    const SamplerOptions greedy{.temperature = 0.0, .repetition_penalty = 2.0};
    EXPECT_EQ(draw(greedy, {4.0f, 3.0f, 1.0f}, 0, {0}), 1);               // 4 / 2 < 3
    EXPECT_EQ(draw(greedy, {7.0f, 3.0f, 1.0f}, 0, {0, 0, 0, 0}), 0);      // 7 / 2 > 3, not 7 / 16
    EXPECT_EQ(draw(greedy, {-2.0f, -3.0f, -9.0f}, 0, {0}), 1);            // -2 * 2 < -3
    EXPECT_EQ(draw(greedy, {4.0f, 3.0f, 1.0f}, 0, {-1, 3, 1000000}), 0);  // ids of no logit
}

TEST(Sampler, PresenceAndFrequencyCountWhatFollowsThePrompt) {
    const std::vector<float> logits = {4.0f, 3.5f, 1.0f};
    const auto greedy = [&](const SamplerOptions& options, const std::vector<std::int32_t>& history, std::size_t n) {
        return Sampler(options).draw(best_kernels(), logits, history, n, 0, 0);
    };
    const SamplerOptions presence{.temperature = 0.0, .presence_penalty = 0.75};
    EXPECT_EQ(greedy(presence, {0}, 0), 1);
    EXPECT_EQ(greedy(presence, {0}, 1), 0);         // the prompt has it, the new text has not
    EXPECT_EQ(greedy(presence, {2, 1, 0}, 1), 0);   // both lose as much
    EXPECT_EQ(greedy(presence, {0, 0, 0, 1}, 9), 0);  // a prompt longer than the history
    const SamplerOptions frequency{.temperature = 0.0, .frequency_penalty = 0.3};
    EXPECT_EQ(greedy(frequency, {0}, 0), 0);     // 4 - 0.3 > 3.5
    EXPECT_EQ(greedy(frequency, {0, 0}, 0), 1);  // 4 - 0.6 < 3.5
    EXPECT_EQ(greedy(frequency, {0, 0}, 1), 0);
    const SamplerOptions reward{.temperature = 0.0, .presence_penalty = -1.0};
    EXPECT_EQ(greedy(reward, {1}, 0), 1);
}

TEST(Sampler, BiasesAreAdded) {
    EXPECT_EQ(draw({.temperature = 0.0, .logit_bias = {{2, 3.5}}}, {4.0f, 3.0f, 1.0f}), 2);
    EXPECT_EQ(reached({.logit_bias = {{0, -INFINITY}, {2, -INFINITY}}}, {1.0f, 1.0f, 1.0f, 1.0f}), (std::set{1, 3}));
    EXPECT_EQ(draw({.temperature = 0.0, .logit_bias = {{-1, 9.0}, {3, 9.0}}}, {4.0f, 3.0f, 1.0f}), 0);  // of no logit
    const SamplerOptions both{.temperature = 0.0, .repetition_penalty = 4.0, .logit_bias = {{0, 2.5}}};
    EXPECT_EQ(draw(both, {4.0f, 3.0f}, 0, {0}), 0);  // 4 / 4 + 2.5, not (4 + 2.5) / 4
}

TEST(Sampler, AMaskForbidsWhateverElseIsSaid) {
    const auto draw_masked = [](const SamplerOptions& options, const std::vector<float>& logits,
                                const std::vector<std::uint32_t>& mask, std::uint64_t position = 0) {
        return Sampler(options).draw(best_kernels(), logits, {}, 0, 0, position, mask);
    };
    const std::vector<float> logits = Random(5).floats(77, -3.0f, 3.0f);
    const std::vector<std::uint32_t> mask = {0x80000001u, 0u, 0x1000u};  // 0, 31 and 76
    std::set<int> seen;
    for (std::uint64_t i = 0; i < 300; ++i) seen.insert(draw_masked({.temperature = 5.0}, logits, mask, i));
    EXPECT_EQ(seen, (std::set{0, 31, 76}));
    EXPECT_EQ(draw_masked({.temperature = 0.0, .logit_bias = {{1, kInf}, {31, 99.0}}}, logits, mask), 31);
    seen.clear();
    const SamplerOptions hot{.temperature = 1e300, .top_k = 70, .min_p = 0.0};
    for (std::uint64_t i = 0; i < 300; ++i) seen.insert(draw_masked(hot, logits, mask, i));
    EXPECT_EQ(seen, (std::set{0, 31, 76}));
    EXPECT_EQ(draw_masked({.temperature = 0.0}, logits, {0u, 2u}), 33);  // one that ends early
    const SamplerOptions banned{.logit_bias = {{0, -kInf}, {31, -kInf}, {76, -kInf}}};  // all that it allows
    EXPECT_TRUE((std::set{0, 31, 76}).contains(draw_masked(banned, logits, mask)));
    EXPECT_THROW(draw_masked({}, logits, {0u, 0u, 0xFFFFE000u}), InvalidArgument);  // bits of no token
    std::vector<float> broken = logits;
    broken[31] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THROW(draw_masked({}, broken, mask), InvalidArgument);
    const std::vector<std::uint32_t> all = {~0u, ~0u, ~0u};
    for (std::uint64_t i = 0; i < 50; ++i) EXPECT_EQ(draw_masked({}, logits, all, i), draw({}, logits, i));
}

TEST(Sampler, ImpossibleTokensAreNeverDrawn) {
    const std::vector<float> logits = {-kInf, 0.0f, -kInf, 1.0f, -kInf};
    EXPECT_EQ(reached({}, logits), (std::set{1, 3}));
    EXPECT_EQ(reached({.temperature = 100.0, .top_k = 4, .top_p = 1.0}, logits), (std::set{1, 3}));
    EXPECT_EQ(reached({.temperature = 1e-30}, {0.0f, 1.0f}), (std::set{1}));
}

TEST(Sampler, InfiniteLogitsShareAllOfTheProbability) {
    const std::vector<float> one = {0.0f, 3.0f, kInf, 1.0f}, two = {0.0f, kInf, -kInf, kInf, 88.0f}, none(5, -kInf);
    for (const SamplerOptions& options :
         {SamplerOptions{}, SamplerOptions{.temperature = 0.5}, SamplerOptions{.top_k = 4},
          SamplerOptions{.top_p = 0.999}, SamplerOptions{.min_p = 0.1}, SamplerOptions{.repetition_penalty = 2.0}}) {
        EXPECT_EQ(reached(options, one, {2}), (std::set{2}));
        EXPECT_EQ(reached(options, two, {1}), (std::set{1, 3}));
    }
    EXPECT_EQ(draw({.temperature = 0.0}, one), 2);
    EXPECT_EQ(draw({.temperature = 0.0}, two), 1);
    EXPECT_EQ(reached({}, none), (std::set{0, 1, 2, 3, 4}));  // as equal as can be
}

TEST(Sampler, NanLogitsAreRefused) {
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    for (const SamplerOptions& options : {SamplerOptions{}, SamplerOptions{.temperature = 0.0},
                                          SamplerOptions{.top_k = 1}, SamplerOptions{.top_p = 0.9}}) {
        EXPECT_THROW(draw(options, {1.0f, 2.0f, kNan}), InvalidArgument);
        EXPECT_THROW(draw(options, {kNan, kInf}), InvalidArgument);
    }
}

// A broken model may produce anything; an id outside the vocabulary would be used as an index by whoever asked.
TEST(Sampler, BrokenLogitsStillGiveAnId) {
    Random random(73);
    for (int round = 0; round < 300; ++round) {
        std::vector<float> logits = random.floats(1 + random.below(700), -5.0f, 5.0f);
        for (float& l : logits) {
            const int kind = random.below(6);
            if (kind == 0) l = std::numeric_limits<float>::max();
            if (kind == 1 && round % 3 == 0) l = kInf;
            if (kind == 2 && round % 2 == 0) l = -kInf;
        }
        for (const SamplerOptions& options :
             {SamplerOptions{}, SamplerOptions{.temperature = 0.0}, SamplerOptions{.top_k = 20},
              SamplerOptions{.top_p = 0.95}, SamplerOptions{.min_p = 0.1}}) {
            const int id = draw(options, logits, static_cast<std::uint64_t>(round));
            ASSERT_GE(id, 0);
            ASSERT_LT(id, static_cast<int>(logits.size()));
        }
    }
}

}  // namespace
}  // namespace pygpt::test
