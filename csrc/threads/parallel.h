// Teams of threads: the only way that the core runs on more than one thread.
#pragma once

#include <atomic>
#include <functional>

namespace pygpt {

// The threads of one call, held together while it lasts. Between two parallel_for the others wait a few microseconds
// without sleeping, then sleep: so hand-over is quick on a free machine, and where another process takes a core the
// waiting thread's core is soon free for the one that is waited for.
class Team {
public:
    using Body = std::function<void(int task, int thread)>;

    // Calls body(task, thread) once for each task in [0, tasks); thread is in [0, size()). Tasks are handed out in
    // order to whichever thread is free, so a core that is slowed down does less. `body` must not throw. Only the
    // thread that leads the team may call this.
    void parallel_for(int tasks, const Body& body);

    int size() const { return workers_ + 1; }

private:
    friend class Threads;

    void serve(int thread);  // a worker's life, until dismiss()
    void dismiss();
    void run_tasks(int thread);

    int workers_ = 0;
    const Body* body_ = nullptr;
    int tasks_ = 0;
    std::atomic<int> next_{0};     // the next task to hand out
    std::atomic<int> round_{0};    // counts the calls of parallel_for; -1: the team parts
    std::atomic<int> working_{0};  // workers that have not finished this round
};

class Threads {
public:
    static constexpr int kMost = 1024;

    explicit Threads(int count);  // at least 1

    int count() const { return count_; }

    // Runs lead(team) on the calling thread, with a team of count() threads, and passes on what it throws. The team is
    // the calling thread alone in a child process after fork(), where the parent's OpenMP threads no longer exist, and
    // without OpenMP.
    void run(const std::function<void(Team&)>& lead) const;

private:
    int count_;
};

// Whether this build has OpenMP at all.
bool has_openmp();

}  // namespace pygpt
