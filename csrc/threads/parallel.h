// Teams of threads: the only way that the core runs on more than one thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <thread>
#include <vector>

#include "base/function_ref.h"
#include "threads/per_process.h"
#include "threads/regions.h"

namespace pygpt {

// Where threads sleep until somebody rings. They look for some tens of microseconds before they do: so hand-over is
// quick, nobody spins for long, and where another process takes a core, the waiting thread's core is soon free for the
// one that is waited for.
class Bell {
public:
    // Wakes everyone who sleeps. What the caller made true before, by stores that release it, is then seen.
    void ring();
    // Returns once there() is true, which acquires what is so stored; whether the caller slept.
    template <class There>
    bool wait(There there);

private:
    std::atomic<unsigned> rung_{0};
    std::atomic<int> sleepers_{0};
};

// The threads of one call, held together while it lasts, and asleep between calls.
class Team {
public:
    using Body = FunctionRef<void(int task, int thread)>;

    // As many threads as there are to be, of which none is started yet: of its own, or those of `regions`.
    Team(int threads, const Regions* regions);
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;
    ~Team();  // ends the workers

    // Calls body(task, thread) once for each task in [0, tasks); thread is in [0, size()), and no two tasks run at once
    // with the same one. Thread i of n begins with the tasks [i * tasks / n, (i + 1) * tasks / n), in order, the same
    // ones in every round of so many tasks; whoever has done its own takes of the others', so a core that is slowed
    // down does less, and a worker that has not woken yet is not waited for. Passes on one of what `body` throws. Only
    // the thread that leads the team may call this.
    void parallel_for(int tasks, Body body);

    int size() const { return static_cast<int>(regions_ != nullptr ? seats_.size() : workers_.size() + 1); }

private:
    friend class Threads;

    // What is done of a round, by thread, in cache lines of its own.
    struct Seat {
        alignas(64) std::atomic<std::uint64_t> next{0};  // the next task of the thread's share, as `round_` says it
        alignas(64) std::atomic<unsigned> done{0};  // tasks that the thread has finished, of all rounds
    };

    void prepare();  // a call begins: threads that are missing are started, and all are woken
    void hire();  // starts those that are missing; fewer where the system refuses
    void rouse() { begin(0); }  // wakes the workers: there will be work soon
    void begin(int tasks);
    void serve(int thread);  // a worker's life
    void work(int thread, std::uint64_t round);
    int run_share(int of, int thread, std::uint64_t round);
    bool finished() const;
    void run_round(int first, int tasks, Body body);

    const Regions* const regions_;
    std::vector<Seat> seats_;
    std::vector<std::thread> workers_;  // of the seats from the second on; the first is the leader's

    // What the leader writes and the workers look at. A round's number, and how many tasks it has in the low bits: 2^44
    // rounds of a microsecond are half a year.
    static constexpr int kTaskBits = 20;
    static constexpr int kMostTasks = (1 << kTaskBits) - 1;
    alignas(64) std::atomic<std::uint64_t> round_{0};
    Body body_;
    int first_ = 0;  // what is added to the number of a task
    std::atomic<bool> parting_{false};
    std::atomic<int> leader_cpu_{-1};  // where the leader ran when it last roused sleepers
    Bell begun_, ended_;
    // The leader's own.
    alignas(64) unsigned expected_ = 0;  // tasks of all rounds
    std::atomic<bool> failed_{false};
    std::exception_ptr thrown_;  // by the first body that failed
};

class Threads {
public:
    static constexpr int kMost = 1024;

    // At least 1 and at most kMost, of their own or, in the process that loaded them, those of `regions`.
    explicit Threads(int count, const Regions* regions = nullptr);
    Threads(const Threads&) = delete;
    Threads& operator=(const Threads&) = delete;
    ~Threads();

    int count() const { return count_; }
    const Regions* regions() const { return regions_; }

    // Runs lead(team) on the calling thread, with a team of count() threads, or fewer where the system refuses to start
    // them. Passes on what `lead` throws. Several threads may call this at once: each leads a team of its own. Works in
    // a child process after fork(), where new threads are started, as the parent's do not exist there.
    void run(FunctionRef<void(Team&)> lead) const;

private:
    struct Pool;
    class Lease;

    int count_;
    const Regions* regions_;
    PerProcess<Pool> pool_;
};

}  // namespace pygpt
