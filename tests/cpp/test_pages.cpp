// Pages go out of sessions and into new ones; the fingerprint of weights; XXH64.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/xxh64.h"
#include "support.h"
#include "support_engine.h"

namespace pygpt::test {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(Xxh64, IsThePublishedFunction) {
    EXPECT_EQ(xxh64(bytes_of(""), 0), 0xEF46DB3751D8E999u);
    EXPECT_EQ(xxh64(bytes_of("a"), 0), 0xD24EC4F1A98C6E5Bu);
    EXPECT_EQ(xxh64(bytes_of("abc"), 0), 0x44BC2CF5AD770999u);
    EXPECT_EQ(xxh64(bytes_of("Nobody inspects the spammish repetition"), 0), 0xFBCEA83C8A378BF1u);
    const std::vector<std::byte> zeros(100);
    for (std::size_t n = 1; n < zeros.size(); ++n) {
        EXPECT_NE(xxh64({zeros.data(), n}, 0), xxh64({zeros.data(), n - 1}, 0));
        EXPECT_NE(xxh64({zeros.data(), n}, 0), xxh64({zeros.data(), n}, 1));
    }
}

// Of two classes: layers that see everything, and those that see 40 tokens.
SmallModel with_window() {
    SmallModel model;
    model.config.n_ctx = 700;
    model.config.layers[1].window = 40;
    model.values = random_tensors(model.config, 1);
    return model;
}

// The pages as they come back from a file.
std::vector<PageList> copied(const Engine& engine, const std::vector<PageList>& pages) {
    std::vector<PageList> out;
    for (std::size_t c = 0; c < pages.size(); ++c) {
        PageList& list = out.emplace_back();
        for (const auto& page : pages[c]) {
            list.push_back(page == nullptr ? nullptr : engine.page(c, {page->data(), page->size()}));
        }
    }
    return out;
}

TEST(Pages, ASessionOfCopiedOnesGoesOn) {
    const SmallModel model = with_window();
    const auto engine = model.engine(2), other = model.engine(1);
    for (const int n : {1, 63, 64, 65, 130, 500}) {
        const auto session = engine->session();
        append(*engine, *session, model.tokens(n, 1));
        session->clear_rest();
        const auto restored = other->session(n, copied(*other, session->pages()));
        EXPECT_EQ(restored->length(), n);
        const auto more = model.tokens(70, 2);
        EXPECT_EQ(append(*other, *restored, more), append(*engine, *session, more)) << n;
    }
    EXPECT_EQ(engine->session(0, std::vector<PageList>(2))->length(), 0);
}

TEST(Pages, WhatLiesBehindTheEndIsCleared) {
    const SmallModel model = with_window();
    const auto engine = model.engine(1);
    const auto longer = engine->session(), session = engine->session();
    append(*engine, *longer, model.tokens(130, 1));
    longer->truncate(70);
    const auto fork = longer->fork();
    const std::vector<PageList> before = longer->pages();
    fork->clear_rest();  // in its own copy
    EXPECT_EQ(longer->pages(), before);
    const std::vector<int> tokens = model.tokens(130, 1);
    append(*engine, *session, {tokens.begin(), tokens.begin() + 70});
    session->clear_rest();
    const auto found = fork->pages(), expected = session->pages();
    for (std::size_t c = 0; c < found.size(); ++c) {
        for (std::size_t i = 0; i < found[c].size(); ++i) {
            ASSERT_EQ(found[c][i] == nullptr, expected[c][i] == nullptr);
            if (found[c][i] == nullptr) continue;
            EXPECT_EQ(std::memcmp(found[c][i]->data(), expected[c][i]->data(), found[c][i]->size()), 0) << c << i;
        }
    }
}

TEST(Pages, ThoseThatDoNotFitAreRefused) {
    const SmallModel model = with_window();
    const auto engine = model.engine(1);
    const auto session = engine->session();
    append(*engine, *session, model.tokens(500, 1));
    const std::vector<PageList> good = session->pages();
    EXPECT_EQ(good[1].front(), nullptr);  // out of the window
    EXPECT_NO_THROW(engine->session(500, good));
    const auto refused = [&](int length, auto change) {
        std::vector<PageList> bad = good;
        change(bad);
        EXPECT_THROW(engine->session(length, bad), InvalidArgument);
    };
    refused(-1, [](auto&) {});
    refused(701, [](auto&) {});
    refused(400, [](auto&) {});
    refused(500, [](auto& p) { p.pop_back(); });
    refused(500, [](auto& p) { p[0].pop_back(); });
    refused(500, [](auto& p) { p[0][0].reset(); });
    refused(500, [](auto& p) { p[1].back().reset(); });
    refused(500, [](auto& p) { p[0][3] = std::make_shared<Buffer>(p[0][3]->size() - 1); });
    EXPECT_THROW(engine->page(2, {}), InvalidArgument);
    EXPECT_THROW(engine->page(0, {}), InvalidArgument);
}

TEST(Fingerprint, IsThatOfTheWeights) {
    SmallModel model;
    const auto fingerprint = model.engine(1)->fingerprint();
    EXPECT_EQ(model.engine(2)->fingerprint(), fingerprint);
    on_each_isa([&](const Kernels& kernels) {
        EXPECT_EQ(build_engine(model.config, model.values, DType::i8, DType::f32, kernels, 1)->fingerprint(),
                  fingerprint);
    });
    model.values.back().back() += 0.25f;
    EXPECT_NE(model.engine(1)->fingerprint(), fingerprint);
}

}  // namespace
}  // namespace pygpt::test
