// parallel_for: the only way that the core runs on more than one thread.
#pragma once

#include <functional>

namespace pygpt {

class Threads {
public:
    explicit Threads(int count);  // at least 1

    int count() const { return count_; }

    // Calls body(task, thread) once for each task in [0, tasks); thread is in [0, count()). Tasks are handed out in
    // order to whichever thread is free, so a core that is slowed down by others does less. `body` must not throw.
    // Runs on the calling thread alone for one task, one thread, or in a child process after fork(), where the
    // OpenMP team of the parent no longer exists.
    void parallel_for(int tasks, const std::function<void(int task, int thread)>& body) const;

private:
    int count_;
};

// Whether this build has OpenMP at all.
bool has_openmp();

}  // namespace pygpt
