#include "threads/parallel.h"

#include <algorithm>
#include <exception>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace pygpt {

namespace {

// Looks at a value before sleeping: some tens of microseconds.
constexpr int kSpins = 1000;

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// Returns once `value` is no longer `old`.
void wait_while(const std::atomic<int>& value, int old) {
    for (int i = 0; i < kSpins; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        pause();
    }
    value.wait(old, std::memory_order_acquire);
}

#if defined(_OPENMP)
// True in a process that was forked after its parent first ran something here: the parent's threads are gone, and
// starting a parallel region would wait for them forever.
bool team_was_lost() {
#if defined(__unix__) || defined(__APPLE__)
    static const pid_t owner = getpid();
    return getpid() != owner;
#else
    return false;
#endif
}
#endif

}  // namespace

void Team::run_tasks(int thread) {
    for (int task = next_.fetch_add(1, std::memory_order_relaxed); task < tasks_;
         task = next_.fetch_add(1, std::memory_order_relaxed)) {
        (*body_)(task, thread);
    }
}

void Team::parallel_for(int tasks, const Body& body) {
    if (workers_ == 0 || tasks <= 1) {
        for (int task = 0; task < tasks; ++task) body(task, 0);
        return;
    }
    body_ = &body;
    tasks_ = tasks;
    next_.store(0, std::memory_order_relaxed);
    working_.store(workers_, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
    run_tasks(0);
    for (int left = working_.load(std::memory_order_acquire); left > 0;
         left = working_.load(std::memory_order_acquire)) {
        wait_while(working_, left);
    }
}

void Team::serve(int thread) {
    for (int seen = 0;;) {
        wait_while(round_, seen);
        seen = round_.load(std::memory_order_acquire);
        if (seen < 0) return;
        run_tasks(thread);
        if (working_.fetch_sub(1, std::memory_order_release) == 1) working_.notify_one();
    }
}

void Team::dismiss() {
    round_.store(-1, std::memory_order_release);
    round_.notify_all();
}

Threads::Threads(int count) : count_(std::max(1, count)) {}

void Threads::run(const std::function<void(Team&)>& lead) const {
    Team team;
#if defined(_OPENMP)
    if (count_ > 1 && !team_was_lost()) {
        std::exception_ptr thrown;  // must not leave the parallel region by itself
#pragma omp parallel num_threads(count_)
        {
            const int thread = omp_get_thread_num();
            if (thread == 0) {
                team.workers_ = omp_get_num_threads() - 1;
                try {
                    lead(team);
                } catch (...) {
                    thrown = std::current_exception();
                }
                team.dismiss();
            } else {
                team.serve(thread);
            }
        }
        if (thrown) std::rethrow_exception(thrown);
        return;
    }
#endif
    lead(team);
}

bool has_openmp() {
#if defined(_OPENMP)
    return true;
#else
    return false;
#endif
}

}  // namespace pygpt
