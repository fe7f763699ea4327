// Teams of threads and their process: fork(), signals, limits, sleep.
#include "support.h"

#if defined(__unix__)
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <system_error>
#include <thread>

namespace pygpt::test {
namespace {

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
    // The address sanitizer's allocator has locks that a thread which just starts may hold for ever in the child.
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
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

// f(threads), three of each backend.
template <class F>
void on_threads_of_each_backend(F f) {
    for (const Regions* regions : backends()) {
        const testing::ScopedTrace trace(__FILE__, __LINE__, regions == nullptr ? "own" : "OpenMP");
        f(std::make_unique<Threads>(3, regions));
    }
}

// OpenMP's threads are gone in a child, which has own ones instead.
TEST(ThreadsOfAProcess, AChildProcessFinishes) {
    PYGPT_SKIP_FORK();
    on_threads_of_each_backend([](std::unique_ptr<Threads> threads) {
        ASSERT_TRUE(adds_up(*threads));
        const auto body = [&] {
            bool right = adds_up(*threads) && adds_up(*threads) && adds_up(Threads(2, threads->regions()));
            right = right && in_a_child([&] { return adds_up(*threads) ? 0 : 1; }) == 0;  // a grandchild
            threads.reset();  // must not wait for the parent's threads either
            return right ? 0 : 1;
        };
        EXPECT_EQ(in_a_child(body), 0);
        EXPECT_EQ(in_a_child([&] { return threads.reset(), 0; }), 0);
        EXPECT_TRUE(adds_up(*threads));  // and the parent still works
    });
}

// The workers are gone in the middle of a call: nobody waits for a worker that was given nothing.
TEST(ThreadsOfAProcess, AChildForkedInsideACallFinishes) {
    PYGPT_SKIP_FORK();
    on_threads_of_each_backend([](std::unique_ptr<const Threads> threads) {
        threads->run([&](Team& team) {
            ASSERT_TRUE(adds_up(team));
            EXPECT_EQ(in_a_child([&] { return adds_up(team) && adds_up(*threads) ? 0 : 1; }), 0);
            EXPECT_TRUE(adds_up(team));
        });
        const auto body = [&] {
            bool right = false, left = false;
            threads->run([&](Team&) { left = in_a_child([&] { return 0; }) == 0; });
            threads->run([&](Team& team) { right = adds_up(team); });
            return left && right ? 0 : 1;
        };
        EXPECT_EQ(in_a_child(body), 0);
        pid_t child = -1;
        threads->run([&](Team&) { child = fork(); });  // the child leaves the call, too
        if (child == 0) {
            alarm(20);
            _exit(adds_up(*threads) ? 0 : 1);
        }
        int status = -1;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
        EXPECT_TRUE(adds_up(*threads));
    });
}

TEST(ThreadsOfAProcess, WorkOnWhereNoThreadCanBeStarted) {
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
TEST(ThreadsOfAProcess, WorkersTakeNoSignals) {
    sigset_t before, inside, after;
    pthread_sigmask(SIG_SETMASK, nullptr, &before);
    std::atomic<bool> met{false};
    sigemptyset(&inside);
    with_team(2, [&](Team& team) {  // OpenMP keeps threads that others have started, so only own ones are certain
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
TEST(ThreadsOfAProcess, SleepBetweenCalls) {
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
}  // namespace
}  // namespace pygpt::test
#endif
