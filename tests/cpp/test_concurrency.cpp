// Many callers of one engine, and more threads than cores: everyone gets what a caller alone gets.
#include <atomic>
#include <thread>

#include "base/error.h"
#include "support_engine.h"

namespace pygpt::test {
namespace {

// f(i) on n threads of the test's own.
template <class F>
void at_once(int n, F f) {
    std::vector<std::thread> callers;
    for (int i = 0; i < n; ++i) callers.emplace_back([&f, i] { f(i); });
    for (std::thread& caller : callers) caller.join();
}

// A prompt and a few single tokens.
std::vector<float> conversation(const SmallModel& model, const Engine& engine, Session& session, unsigned seed) {
    std::vector<float> all = append(engine, session, model.tokens(40 + static_cast<int>(seed), seed));
    for (unsigned step = 0; step < 4; ++step) {
        const std::vector<float> last = append(engine, session, model.tokens(1, 100 * seed + step));
        all.insert(all.end(), last.begin(), last.end());
    }
    return all;
}

void expect_equal_conversations(int threads, int callers) {
    const SmallModel model;
    const auto alone = model.engine(1), shared = model.engine(threads);
    const auto prefix = model.tokens(70, 7);
    const auto base = shared->session(), base_alone = alone->session();
    append(*shared, *base, prefix);
    append(*alone, *base_alone, prefix);
    std::vector<std::shared_ptr<Session>> sessions;
    std::vector<std::vector<float>> found(static_cast<std::size_t>(callers)), expected = found;
    for (int i = 0; i < callers; ++i) {
        sessions.push_back(i % 2 == 0 ? shared->session() : base->fork());  // which share a page until they write
        const auto session = i % 2 == 0 ? alone->session() : base_alone->fork();
        expected[static_cast<std::size_t>(i)] = conversation(model, *alone, *session, static_cast<unsigned>(i));
    }
    at_once(callers, [&](int i) {
        const auto at = static_cast<std::size_t>(i);
        found[at] = conversation(model, *shared, *sessions[at], static_cast<unsigned>(i));
    });
    for (std::size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i], expected[i]) << "caller " << i;
}

TEST(Concurrency, CallersOfOneEngineDoNotMix) { expect_equal_conversations(2, 6); }

TEST(Concurrency, ManyMoreThreadsThanCores) { expect_equal_conversations(16, 3); }

TEST(Concurrency, OneOfTwoCallersOfASessionIsRefused) {
    const SmallModel model;
    const auto engine = model.engine(2);
    const auto session = engine->session();
    const auto tokens = model.tokens(10, 1);
    std::atomic<int> done{0}, refused{0};
    at_once(3, [&](int) {
        for (int i = 0; i < 8; ++i) {
            try {
                append(*engine, *session, tokens);
                ++done;
            } catch (const InvalidArgument&) {
                ++refused;
            }
        }
    });
    EXPECT_EQ(done + refused, 24);
    EXPECT_EQ(session->length(), 10 * done);
}

}  // namespace
}  // namespace pygpt::test
