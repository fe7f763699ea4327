// Every single request for memory fails once: nothing crashes, leaks or is left half done.
#include <new>
#include <utility>

#include "base/buffer.h"
#include "failing_memory.h"
#include "support_engine.h"

namespace pygpt::test {
namespace {

constexpr long kMany = 100000;  // requests of the largest operation here are a few hundred

// body() with request 1, 2, ... failing, until it makes fewer; after each the memory in use is what it was.
// check(thrown) is called after each of them.
template <class Body, class Check>
void fail_each_request(Body body, Check check) {
    for (long n = 1;; ++n) {
        ASSERT_LT(n, kMany);
        bool thrown = false, failed = false;
        const long before = live_memory();
        {
            const FailingMemory failing(n);
            try {
                body();
            } catch (const std::bad_alloc&) {
                thrown = true;
            }
            failed = failing.failed();
        }
        EXPECT_TRUE(failed || !thrown);
        check(thrown);
        EXPECT_EQ(live_memory(), before) << "request " << n;
        if (!failed) {
            EXPECT_GT(n, 1);
            return;
        }
    }
}

TEST(OutOfMemory, BuffersOfEverySize) {
    for (const std::size_t bytes : {std::size_t{1}, std::size_t{100}, std::size_t{5} << 20}) {
        int refused = 0;
        fail_each_request([&] { const Buffer buffer(bytes); }, [&](bool thrown) { refused += thrown ? 1 : 0; });
        EXPECT_GT(refused, 0) << bytes;
    }
}

TEST(OutOfMemory, LoadingGivesEverythingBack) {
    const SmallModel model;
    static_cast<void>(best_kernels());  // which asks once and keeps the answer
    for (const int threads : {1, 3}) {
        fail_each_request([&] { static_cast<void>(model.engine(threads)); }, [](bool) {});
    }
}

// A new sequence in a new engine; and a prompt behind a shared half page, so that pages are copied and added.
TEST(OutOfMemory, AFailedStepLeavesTheSessionAsItWas) {
    const SmallModel model;
    const std::vector<int> prefix = model.tokens(70, 2), rest = model.tokens(120, 3);
    for (const auto& [threads, shared] : {std::pair{1, 0}, {1, 70}, {3, 0}, {3, 70}}) {
        std::shared_ptr<Engine> engine;
        std::shared_ptr<Session> base, session;
        const auto renew = [&, threads = threads, shared = shared] {
            base = session = nullptr;
            engine = model.engine(threads);
            base = engine->session();
            if (shared > 0) append(*engine, *base, prefix);
            session = base->fork();
        };
        renew();
        const std::vector<float> expected = append(*engine, *session, rest);
        bool failed = true;
        for (long n = 1; failed; ++n) {
            ASSERT_LT(n, kMany);
            renew();
            bool thrown = false;
            std::vector<float> found;
            {
                const FailingMemory failing(n);
                try {
                    found = append(*engine, *session, rest);
                } catch (const std::bad_alloc&) {
                    thrown = true;
                }
                failed = failing.failed();
            }
            if (thrown) {
                ASSERT_EQ(session->length(), shared) << "request " << n;
                found = append(*engine, *session, rest);
            }
            ASSERT_EQ(found, expected) << "request " << n;
            ASSERT_EQ(session->length(), shared + 120);
            ASSERT_EQ(base->length(), shared);
        }
    }
}

}  // namespace
}  // namespace pygpt::test
