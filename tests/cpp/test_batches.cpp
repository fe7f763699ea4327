// Batches whose sequences want different things, and some of which are cancelled.
#include <atomic>
#include <functional>
#include <utility>

#include "base/error.h"
#include "support_engine.h"

namespace pygpt::test {
namespace {

// New sequences of so many tokens each, with outputs in memory of their own.
struct MixedBatch {
    const Engine& engine;
    std::vector<std::shared_ptr<Session>> sessions;
    std::vector<std::vector<int>> tokens;
    std::vector<std::vector<float>> results;
    std::vector<std::atomic<bool>> flags;
    std::vector<SequenceInput> inputs;

    MixedBatch(const SmallModel& model, const Engine& of, const std::vector<std::pair<int, Output>>& sequences)
        : engine(of), flags(sequences.size()) {
        for (const auto& [n, output] : sequences) {
            sessions.push_back(engine.session());
            tokens.push_back(model.tokens(n, static_cast<unsigned>(n)));
        }
        for (std::size_t i = 0; i < sequences.size(); ++i) {
            inputs.push_back({sessions[i].get(), tokens[i], sequences[i].second, nullptr, &flags[i]});
            results.push_back(room(engine, inputs[i]));
            inputs[i].out = results[i].data();
        }
    }

    // That a sequence has what it alone would have, or, if it was cancelled, what it had.
    void expect(std::size_t i, bool cancelled) const {
        EXPECT_EQ(sessions[i]->length(), cancelled ? 0 : static_cast<int>(tokens[i].size()));
        const auto alone = cancelled ? sessions[i] : engine.session();
        const std::vector<float> out = outputs(engine, {alone.get(), tokens[i], inputs[i].output});
        if (!cancelled) {
            EXPECT_EQ(results[i], out);
            EXPECT_EQ(append(engine, *sessions[i], {7}), append(engine, *alone, {7}));
        }
    }
};

TEST(Batches, EachSequenceHasItsOwnOutput) {
    const SmallModel model;
    const auto engine = model.engine(2);
    MixedBatch batch(model, *engine,
                     {{3, Output::last},
                      {70, Output::hidden},
                      {5, Output::last},
                      {290, Output::all},
                      {40, Output::none},
                      {1, Output::hidden},
                      {280, Output::last},
                      {9, Output::all},
                      {250, Output::score},
                      {1, Output::score},
                      {17, Output::score}});
    EXPECT_EQ(engine->forward(batch.inputs, [] {}), std::vector<bool>(11, false));
    for (std::size_t i = 0; i < 11; ++i) batch.expect(i, false);
}

// One of three is cancelled before the call, and before each of the layers and outputs of all its steps.
TEST(Batches, ACancelledSequenceLeavesTheOthers) {
    const SmallModel model;
    const auto engine = model.engine(2);
    for (std::size_t which = 0; which < 3; ++which) {
        int calls = 0;
        for (int when = -1; when < calls; ++when) {
            MixedBatch batch(model, *engine, {{200, Output::all}, {2, Output::last}, {290, Output::score}});
            batch.flags[which] = when < 0;
            calls = 0;
            const auto cancel = [&] {
                if (calls++ == when) batch.flags[which] = true;
            };
            const std::vector<bool> cancelled = engine->forward(batch.inputs, cancel);
            for (std::size_t i = 0; i < 3; ++i) {
                EXPECT_EQ(cancelled[i], i == which) << when;
                batch.expect(i, i == which);
            }
        }
        EXPECT_GE(calls, 3);
    }
}

// Two steps of two layers, of which only the second has an output.
TEST(Batches, TheCallEndsWithinALayerOnceAllAreCancelled) {
    const SmallModel model;
    const auto engine = model.engine(2);
    for (const int when : {0, 1, 3, 4, 5}) {
        MixedBatch batch(model, *engine, {{290, Output::last}, {290, Output::all}});
        batch.flags[1] = true;
        int calls = 0;
        const auto cancel = [&] {
            if (calls++ == when) batch.flags[0] = true;
        };
        if (when == 5) {
            EXPECT_EQ(engine->forward(batch.inputs, cancel), (std::vector<bool>{false, true}));
            EXPECT_EQ(calls, 5);
        } else {
            EXPECT_THROW(engine->forward(batch.inputs, cancel), Cancelled) << when;
            EXPECT_EQ(calls, when + 1);
        }
        batch.expect(0, when < 5);
        batch.expect(1, true);
    }
    MixedBatch batch(model, *engine, {{2, Output::last}, {3, Output::all}});
    batch.flags[0] = batch.flags[1] = true;
    EXPECT_THROW(engine->forward(batch.inputs, [] { FAIL(); }), Cancelled);
}

}  // namespace
}  // namespace pygpt::test
