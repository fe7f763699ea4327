// Engine::forward with somebody who looks, and Engine::read_out.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "model/recorder.h"
#include "support_engine.h"

namespace pygpt {

using test::SmallModel;

namespace {

constexpr int kTokens = 280;  // two steps

// The logits of all tokens, in a session of their own.
std::vector<float> logits(const Engine& engine, const std::vector<int>& tokens, const Tap* tap = nullptr) {
    const auto session = engine.session();
    std::vector<float> out(tokens.size() * static_cast<std::size_t>(engine.output_width(Output::all)));
    const SequenceInput input{session.get(), tokens, Output::all, out.data()};
    engine.forward({&input, 1}, [] {}, tap);
    return out;
}

std::vector<float> rows_of(const ModelConfig& config, Site site, int layer) {
    return std::vector<float>(static_cast<std::size_t>(kTokens * site_width(config, site, layer)));
}

}  // namespace

TEST(Trace, WhatIsRecordedIsWhatThereWas) {
    const SmallModel model;
    const std::vector<int> tokens = model.tokens(kTokens, 1);
    std::vector<float> seen;
    for (const int threads : {1, 3}) {
        const auto engine = model.engine(threads);
        const std::vector<float> expected = logits(*engine, tokens);
        std::vector<float> hidden = rows_of(model.config, Site::hidden, 1);
        std::vector<float> neurons = rows_of(model.config, Site::neurons, 0);
        const std::vector<Record> records = {{Site::hidden, 1, hidden.data()}, {Site::neurons, 0, neurons.data()}};
        const Tap tap = Recorder(model.config, records, {});
        EXPECT_EQ(logits(*engine, tokens, &tap), expected);
        std::vector<float> read(expected.size());
        engine->read_out(hidden.data(), kTokens, read.data(), [] {});
        EXPECT_EQ(read, expected);
        EXPECT_EQ(std::count(neurons.begin(), neurons.end(), 0.0f), 0);
        if (seen.empty()) seen = neurons;
        EXPECT_EQ(neurons, seen);
    }
}

TEST(Trace, APatchChangesItsColumnsOfItsPositionsAndWhatFollows) {
    const SmallModel model;
    const auto engine = model.engine(2);
    const int width = model.config.head_dim, first = 2 * width, vocabulary = model.config.n_vocab;
    const std::vector<int> tokens = model.tokens(kTokens, 1);
    const std::vector<float> values(static_cast<std::size_t>(width), 0.5f);
    std::vector<std::int32_t> rows(kTokens, -1);
    rows[270] = 0;
    std::vector<float> before = rows_of(model.config, Site::heads, 0), after = before;
    const Record record{Site::heads, 0, before.data()}, again{Site::heads, 0, after.data()};
    const Patch patch{Site::heads, 0, first, width, rows.data(), values.data()};
    const Tap looks = Recorder(model.config, {&record, 1}, {});
    const Tap changes = Recorder(model.config, {&again, 1}, {&patch, 1});
    const std::vector<float> expected = logits(*engine, tokens, &looks), found = logits(*engine, tokens, &changes);
    const std::ptrdiff_t at = 270 * site_width(model.config, Site::heads, 0) + first;
    std::copy_n(values.begin(), width, before.begin() + at);
    EXPECT_EQ(after, before);
    const auto differ = std::mismatch(found.begin(), found.end(), expected.begin()).first - found.begin();
    EXPECT_EQ(differ / vocabulary, 270);  // no earlier token sees it
}

TEST(Trace, StatesOfNothingHaveNoLogits) {
    const SmallModel model;
    float unchanged = 1.0f;
    model.engine(1)->read_out(nullptr, 0, &unchanged, [] {});
    EXPECT_EQ(unchanged, 1.0f);
}

}  // namespace pygpt
