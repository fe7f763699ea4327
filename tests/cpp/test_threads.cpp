// Teams of threads.
#include <array>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "support.h"

namespace pygpt::test {
namespace {

TEST(Threads, RunEveryTaskOnce) {
    for (const int count : {1, 2, 3, 8, 32}) {
        on_each_backend(count, [&](Team& team) {
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
    EXPECT_EQ(Threads(5000).count(), Threads::kMost);
}

// A round begins when the one before it is done, also after a pause that sends the workers to sleep.
TEST(Threads, RoundsSeeWhatTheOnesBeforeWrote) {
    on_each_backend(3, [](Team& team) {
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
    on_each_backend(3, [](Team& team) {
        std::array<std::atomic<int>, 3> busy{};
        std::atomic<int> clashes{0};
        team.parallel_for(200, [&](int, int thread) {
            std::atomic<int>& mine = busy[static_cast<std::size_t>(thread)];
            if (mine.fetch_add(1) != 0) ++clashes;
            std::this_thread::sleep_for(std::chrono::microseconds(20));
            mine.fetch_sub(1);
        });
        EXPECT_EQ(clashes, 0);
    });
}

TEST(Threads, RunAtTheSameTime) {
    on_each_backend(2, [](Team& team) {
        std::atomic<int> here{0}, met{0};
        team.parallel_for(2, [&](int, int) {
            ++here;
            wait_until([&] { return here == 2; });
            if (here == 2) ++met;
        });
        EXPECT_EQ(met, 2);
    });
}

// What a thread read in one round it reads in the next.
TEST(Threads, EachBeginsWithItsOwnShare) {
    constexpr int kCount = 4;
    on_each_backend(kCount, [&](Team& team) {
        ASSERT_EQ(team.size(), kCount);
        for (int round = 0; round < 20; ++round) {
            std::array<std::atomic<int>, 3 * kCount> by{};
            std::atomic<int> here{0};
            team.parallel_for(3 * kCount, [&](int task, int thread) {
                by[static_cast<std::size_t>(task)] = thread;
                ++here;
                if (task % 3 == 0) wait_until([&] { return here >= kCount; });  // all have begun
            });
            for (int i = 0; i < kCount; ++i) ASSERT_EQ(by[static_cast<std::size_t>(3 * i)], i);
        }
    });
}

TEST(Threads, WhatABusyThreadLeavesIsTakenByOthers) {
    on_each_backend(3, [&](Team& team) {
        for (int round = 0; round < 20; ++round) {
            std::atomic<int> ran{0}, seen{0};
            team.parallel_for(30, [&](int task, int) {
                if (task == 0) {  // whoever runs it has nine more to do
                    wait_until([&] { return ran == 29; });
                    seen = ran.load();
                } else {
                    ++ran;
                }
            });
            ASSERT_EQ(seen, 29);
        }
    });
}

TEST(Threads, RunMoreTasksThanARoundHas) {
    constexpr int kTasks = (1 << 20) + 12345;
    on_each_backend(3, [&](Team& team) {
        std::vector<std::atomic<std::uint8_t>> runs(kTasks);
        team.parallel_for(kTasks, [&](int task, int) { ++runs[static_cast<std::size_t>(task)]; });
        EXPECT_TRUE(std::all_of(runs.begin(), runs.end(), [](const auto& n) { return n == 1; }));
    });
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
        on_each_backend(count, [&](Team& team) { team.parallel_for(10, [](int, int) {}); });
    }
}

// Whichever thread runs it, a body that fails ends in the caller, and the team goes on.
TEST(Threads, WhatABodyThrowsArrives) {
    for (const int count : {1, 3}) {
        on_each_backend(count, [&](Team& team) {
            for (int round = 0; round < 50; ++round) {
                const auto fail = [&](int task, int) {
                    if (task % 7 == round % 7) throw std::runtime_error("failed");
                };
                EXPECT_THROW(team.parallel_for(20, fail), std::runtime_error);
                std::atomic<int> sum{0};
                team.parallel_for(20, [&](int task, int) { sum += task; });
                ASSERT_EQ(sum, 190);
            }
        });
    }
}

TEST(Threads, ManyCallersShareThem) {
    for (const Regions* regions : backends()) {
        const Threads threads(3, regions);
        std::array<std::atomic<int>, 9> sums{};  // more than the teams that are kept
        std::vector<std::thread> callers;
        for (auto& sum : sums) {
            callers.emplace_back([&] {
                for (int call = 0; call < 30; ++call) {
                    threads.run([&](Team& team) {
                        for (int round = 0; round < 4; ++round) {
                            team.parallel_for(20, [&](int task, int) { sum += task; });
                        }
                    });
                }
            });
        }
        for (std::thread& t : callers) t.join();
        for (const std::atomic<int>& sum : sums) EXPECT_EQ(sum, 30 * 4 * 190);
    }
}

TEST(Threads, SeveralCallersDoNotMix) {
    std::array<std::atomic<std::size_t>, 4> sums{};
    std::vector<std::thread> callers;
    for (std::size_t caller = 0; caller < sums.size(); ++caller) {
        callers.emplace_back([&, caller] {
            for (int i = 0; i < 10; ++i) {
                on_each_backend(2, [&](Team& team) {
                    for (int round = 0; round < 5; ++round) {
                        team.parallel_for(50, [&](int task, int) { sums[caller] += static_cast<std::size_t>(task); });
                    }
                });
            }
        });
    }
    for (std::thread& t : callers) t.join();
    for (const auto& sum : sums) EXPECT_EQ(sum, backends().size() * 50 * (49 * 50 / 2));
}

}  // namespace
}  // namespace pygpt::test
