#include "threads/parallel.h"

#include <algorithm>
#include <atomic>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace pygpt {

namespace {

// True in a process that was forked after its parent first ran something here: the parent's team is gone, and
// starting a parallel region would wait for it forever.
bool team_was_lost() {
#if defined(__unix__) || defined(__APPLE__)
    static const pid_t owner = getpid();
    return getpid() != owner;
#else
    return false;
#endif
}

}  // namespace

Threads::Threads(int count) : count_(std::max(1, count)) {}

void Threads::parallel_for(int tasks, const std::function<void(int, int)>& body) const {
#if defined(_OPENMP)
    const int team = std::min(count_, tasks);
    if (team > 1 && !team_was_lost()) {
        std::atomic<int> next{0};
#pragma omp parallel num_threads(team)
        {
            const int thread = omp_get_thread_num();
            for (int task = next.fetch_add(1, std::memory_order_relaxed); task < tasks;
                 task = next.fetch_add(1, std::memory_order_relaxed)) {
                body(task, thread);
            }
        }
        return;
    }
#endif
    for (int task = 0; task < tasks; ++task) body(task, 0);
}

bool has_openmp() {
#if defined(_OPENMP)
    return true;
#else
    return false;
#endif
}

}  // namespace pygpt
