// Teams of threads.
#include <array>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "support.h"

#if defined(__unix__)
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace pygpt::test {
namespace {

TEST(Threads, RunEveryTaskOnce) {
    for (const int count : {1, 2, 3, 8}) {
        with_team(count, [&](Team& team) {
            EXPECT_GE(team.size(), 1);
            EXPECT_LE(team.size(), count);
            for (const int tasks : {0, 1, 2, 7, 1000, 3, 1000}) {  // one team, many rounds
                std::vector<std::atomic<int>> runs(static_cast<std::size_t>(tasks));
                std::atomic<int> strays{0};
                team.parallel_for(tasks, [&](int task, int thread) {
                    if (task < 0 || task >= tasks || thread < 0 || thread >= count) {
                        ++strays;
                    } else {
                        ++runs[static_cast<std::size_t>(task)];
                    }
                });
                EXPECT_EQ(strays, 0);
                for (const std::atomic<int>& n : runs) ASSERT_EQ(n, 1) << count << " threads, " << tasks << " tasks";
            }
        });
    }
}

TEST(Threads, AreAtLeastOne) {
    EXPECT_EQ(Threads(0).count(), 1);
    EXPECT_EQ(Threads(-3).count(), 1);
    EXPECT_EQ(Threads(5).count(), 5);
}

// A round begins when the one before it is done, also after a pause that sends the workers to sleep.
TEST(Threads, RoundsSeeWhatTheOnesBeforeWrote) {
    with_team(3, [](Team& team) {
        std::array<int, 64> values{};  // plain integers: the hand-over itself must order them
        int wrong = 0;
        for (int round = 0; round < 500; ++round) {
            if (round % 100 == 99) std::this_thread::sleep_for(std::chrono::milliseconds(5));
            team.parallel_for(64, [&](int task, int) { ++values[static_cast<std::size_t>((task + round) % 64)]; });
            for (const int v : values) wrong += v != round + 1;
        }
        EXPECT_EQ(wrong, 0);
    });
}

// A thread's index is its own while the region runs: that is what per-thread scratch memory relies on.
TEST(Threads, NoTwoTasksShareAnIndexAtOnce) {
    std::array<std::atomic<int>, 3> busy{};
    std::atomic<int> clashes{0};
    with_team(3, [&](Team& team) {
        team.parallel_for(200, [&](int, int thread) {
            std::atomic<int>& mine = busy[static_cast<std::size_t>(thread)];
            if (mine.fetch_add(1) != 0) ++clashes;
            std::this_thread::sleep_for(std::chrono::microseconds(20));
            mine.fetch_sub(1);
        });
    });
    EXPECT_EQ(clashes, 0);
}

TEST(Threads, RunAtTheSameTime) {
    if (!has_openmp()) GTEST_SKIP() << "built without OpenMP";
    std::atomic<int> here{0}, met{0};
    with_team(2, [&](Team& team) {
        team.parallel_for(2, [&](int, int) {
            ++here;
            const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
            while (here < 2 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
            if (here == 2) ++met;
        });
    });
    EXPECT_EQ(met, 2);
}

TEST(Threads, WhatTheLeaderThrowsArrives) {
    for (const int count : {1, 3}) {
        int rounds = 0;
        const auto lead = [&](Team& team) {
            team.parallel_for(10, [](int, int) {});
            ++rounds;
            throw std::runtime_error("stopped");
        };
        EXPECT_THROW(Threads(count).run(lead), std::runtime_error);
        EXPECT_EQ(rounds, 1);
        with_team(count, [&](Team& team) { team.parallel_for(10, [](int, int) {}); });
    }
}

TEST(Threads, SeveralCallersDoNotMix) {
    std::array<std::atomic<int>, 4> sums{};
    std::vector<std::thread> callers;
    for (std::size_t caller = 0; caller < sums.size(); ++caller) {
        callers.emplace_back([&, caller] {
            for (int i = 0; i < 10; ++i) {
                with_team(2, [&](Team& team) {
                    for (int round = 0; round < 5; ++round) {
                        team.parallel_for(50, [&](int task, int) { sums[caller] += task; });
                    }
                });
            }
        });
    }
    for (std::thread& t : callers) t.join();
    for (const std::atomic<int>& sum : sums) EXPECT_EQ(sum, 50 * (49 * 50 / 2));
}

#if defined(__unix__)
TEST(Threads, AChildProcessFinishes) {
    const auto adds_up = [] {
        std::atomic<int> sum{0};
        with_team(2, [&](Team& team) { team.parallel_for(100, [&](int task, int) { sum += task; }); });
        return sum == 4950;
    };
    ASSERT_TRUE(adds_up());
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        alarm(20);  // a child that waits for its parent's threads dies of it
        _exit(adds_up() ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "the child hung";
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_TRUE(adds_up());  // and the parent still works
}
#endif

}  // namespace
}  // namespace pygpt::test
