// Teams of threads.
#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "support.h"

#if defined(__unix__)
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#endif

namespace pygpt::test {
namespace {

// Waits, for 20 seconds at most, until the other threads have made it true.
template <class There>
void wait_until(There there) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!there() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
}

TEST(Threads, RunEveryTaskOnce) {
    for (const int count : {1, 2, 3, 8, 32}) {
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
    EXPECT_EQ(Threads(5000).count(), Threads::kMost);
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
    std::atomic<int> here{0}, met{0};
    with_team(2, [&](Team& team) {
        team.parallel_for(2, [&](int, int) {
            ++here;
            wait_until([&] { return here == 2; });
            if (here == 2) ++met;
        });
    });
    EXPECT_EQ(met, 2);
}

// What a thread read in one round it reads in the next.
TEST(Threads, EachBeginsWithItsOwnShare) {
    constexpr int kCount = 4;
    with_team(kCount, [&](Team& team) {
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
    with_team(3, [&](Team& team) {
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
    std::vector<std::atomic<std::uint8_t>> runs(kTasks);
    with_team(3, [&](Team& team) {
        team.parallel_for(kTasks, [&](int task, int) { ++runs[static_cast<std::size_t>(task)]; });
    });
    EXPECT_TRUE(std::all_of(runs.begin(), runs.end(), [](const auto& n) { return n == 1; }));
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

// Whichever thread runs it, a body that fails ends in the caller, and the team goes on.
TEST(Threads, WhatABodyThrowsArrives) {
    for (const int count : {1, 3}) {
        with_team(count, [&](Team& team) {
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
    const Threads threads(3);
    std::array<std::atomic<int>, 9> sums{};  // more than the teams that are kept
    std::vector<std::thread> callers;
    for (std::atomic<int>& sum : sums) {
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
bool adds_up(Team& team) {
    std::atomic<int> sum{0};
    team.parallel_for(100, [&](int task, int) { sum += task; });
    return sum == 4950;
}

bool adds_up(const Threads& threads) {
    bool right = false;
    threads.run([&](Team& team) { right = adds_up(team); });
    return right;
}

// The exit status of `body` in a child process, whose death by a signal is a failure.
template <class F>
int in_a_child(F body) {
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);  // a child that waits for its parent's threads dies of it
        _exit(body());
    }
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "the child hung, or died";
    return WEXITSTATUS(status);
}

// The thread sanitizer takes a child's new thread for one of the parent's that has its id, and gives up.
#if defined(__SANITIZE_THREAD__)
#define PYGPT_SKIP_FORK() GTEST_SKIP() << "the thread sanitizer does not follow threads into a child"
#else
#define PYGPT_SKIP_FORK() static_cast<void>(0)
#endif

TEST(Threads, AChildProcessFinishes) {
    PYGPT_SKIP_FORK();
    auto threads = std::make_unique<Threads>(3);
    ASSERT_TRUE(adds_up(*threads));
    const auto body = [&] {
        bool right = adds_up(*threads) && adds_up(*threads) && adds_up(Threads(2));
        right = right && in_a_child([&] { return adds_up(*threads) ? 0 : 1; }) == 0;  // a grandchild
        threads.reset();  // must not wait for the parent's threads either
        return right ? 0 : 1;
    };
    EXPECT_EQ(in_a_child(body), 0);
    EXPECT_EQ(in_a_child([&] { return threads.reset(), 0; }), 0);
    EXPECT_TRUE(adds_up(*threads));  // and the parent still works
}

// The workers are gone in the middle of a call: nobody waits for a worker that was given nothing.
TEST(Threads, AChildForkedInsideACallFinishes) {
    PYGPT_SKIP_FORK();
    const Threads threads(3);
    threads.run([&](Team& team) {
        ASSERT_TRUE(adds_up(team));
        EXPECT_EQ(in_a_child([&] { return adds_up(team) && adds_up(threads) ? 0 : 1; }), 0);
        EXPECT_TRUE(adds_up(team));
    });
    const auto body = [&] {
        bool right = false, left = false;
        threads.run([&](Team&) { left = in_a_child([&] { return 0; }) == 0; });
        threads.run([&](Team& team) { right = adds_up(team); });
        return left && right ? 0 : 1;
    };
    EXPECT_EQ(in_a_child(body), 0);
    pid_t child = -1;
    threads.run([&](Team&) { child = fork(); });  // the child leaves the call, too
    if (child == 0) {
        alarm(20);
        _exit(adds_up(threads) ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_TRUE(adds_up(threads));
}

TEST(Threads, WorkOnWhereNoThreadCanBeStarted) {
    constexpr int kAllowed = 7;
    const int status = in_a_child([] {
        if (geteuid() == 0 && setuid(65534) != 0) return kAllowed;  // the limit does not bind root
        const rlimit none{0, 0};
        if (setrlimit(RLIMIT_NPROC, &none) != 0) return kAllowed;
        try {
            std::thread([] {}).join();
            return kAllowed;
        } catch (const std::system_error&) {
        }
        const Threads threads(4);
        int size = 0;
        threads.run([&](Team& team) { size = team.size(); });
        return size == 1 && adds_up(threads) ? 0 : 1;
    });
    if (status == kAllowed) GTEST_SKIP() << "this system lets the process start threads all the same";
    EXPECT_EQ(status, 0);
}

// Signals belong to the program's own threads.
TEST(Threads, WorkersTakeNoSignals) {
    sigset_t before, inside, after;
    pthread_sigmask(SIG_SETMASK, nullptr, &before);
    std::atomic<bool> met{false};
    sigemptyset(&inside);
    with_team(2, [&](Team& team) {
        team.parallel_for(2, [&](int, int thread) {
            if (thread == 1) {
                pthread_sigmask(SIG_SETMASK, nullptr, &inside);
                met = true;
            }
            wait_until([&] { return met.load(); });
        });
    });
    pthread_sigmask(SIG_SETMASK, nullptr, &after);
    for (const int signal : {SIGINT, SIGTERM, SIGALRM, SIGCHLD}) {
        EXPECT_EQ(sigismember(&inside, signal), 1);
        EXPECT_EQ(sigismember(&after, signal), sigismember(&before, signal));
    }
    EXPECT_EQ(sigismember(&inside, SIGSEGV), 0);
}

// Time that passes does not count here, only time on a core: after a call nobody spins for milliseconds.
TEST(Threads, SleepBetweenCalls) {
    const auto cpu_ms = [] {
        timespec t{};
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
    };
    const Threads threads(4);
    ASSERT_TRUE(adds_up(threads));
    const double start = cpu_ms();
    for (int call = 0; call < 20; ++call) {
        ASSERT_TRUE(adds_up(threads));
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_LT(cpu_ms() - start, 100.0);  // of the 800 that four spinning threads would take
}
#endif

}  // namespace
}  // namespace pygpt::test
