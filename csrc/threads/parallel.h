// Teams of threads: the only way that the core runs on more than one thread.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "threads/per_process.h"

namespace pygpt {

// A number that one side raises and the other waits for: it looks for some tens of microseconds, then sleeps. So
// hand-over is quick, nobody spins for long, and where another process takes a core, the waiting thread's core is soon
// free for the one that is waited for.
class Signal {
public:
    unsigned value() const { return value_.load(std::memory_order_acquire); }
    // What was written before is seen by whoever sees the new value. Returns the new value.
    unsigned add(unsigned n) { return value_.fetch_add(n, std::memory_order_seq_cst) + n; }
    void wake();                   // everyone who sleeps on an older value; after add()
    // Returns once the value is no longer `old`; whether the caller slept.
    bool wait_while(unsigned old);

private:
    std::atomic<unsigned> value_{0};
    std::atomic<int> sleepers_{0};
};

// The threads of one call, held together while it lasts, and asleep between calls.
class Team {
public:
    using Body = std::function<void(int task, int thread)>;

    Team() = default;
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;
    ~Team();  // ends the workers

    // Calls body(task, thread) once for each task in [0, tasks); thread is in [0, size()), and no two tasks run at once
    // with the same one. Tasks are handed out in order to whichever thread is free, so a core that is slowed down does
    // less, and a worker that has not woken yet is not waited for. Passes on one of what `body` throws. Only the thread
    // that leads the team may call this.
    void parallel_for(int tasks, const Body& body);

    int size() const { return static_cast<int>(workers_.size()) + 1; }

private:
    friend class Threads;

    void hire(int workers);  // starts those that are missing; fewer where the system refuses
    void rouse();  // wakes the workers: there will be work soon
    void serve(int thread);  // a worker's life
    void work(int thread);

    // What the leader writes and the workers look at.
    alignas(64) Signal rounds_;  // how often there was something new
    std::atomic<int> left_{0};  // tasks of this round not handed out yet; 0 or less: none
    int tasks_ = 0;
    const Body* body_ = nullptr;
    std::atomic<bool> parting_{false};
    std::atomic<int> leader_cpu_{-1};  // where the leader ran when it last roused sleepers
    // What the leader waits for.
    alignas(64) Signal done_;  // tasks finished, of all rounds
    unsigned expected_ = 0;  // what done_ will be at the end of this round
    std::atomic<bool> failed_{false};
    std::exception_ptr thrown_;  // by the first body that failed

    std::vector<std::thread> workers_;
};

class Threads {
public:
    static constexpr int kMost = 1024;

    explicit Threads(int count);  // at least 1 and at most kMost
    Threads(const Threads&) = delete;
    Threads& operator=(const Threads&) = delete;
    ~Threads();

    int count() const { return count_; }

    // Runs lead(team) on the calling thread, with a team of count() threads, or fewer where the system refuses to start
    // them. Passes on what `lead` throws. Several threads may call this at once: each leads a team of its own. Works in
    // a child process after fork(), where new threads are started, as the parent's do not exist there.
    void run(const std::function<void(Team&)>& lead) const;

private:
    struct Pool;
    class Lease;

    int count_;
    PerProcess<Pool> pool_;
};

}  // namespace pygpt
