#include "threads/parallel.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <system_error>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#define PYGPT_POSIX
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

namespace pygpt {

namespace {

constexpr std::chrono::microseconds kLook{50};  // before a waiting thread sleeps
constexpr std::size_t kSpareTeams = 4;          // that are kept for the next callers

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

#if defined(PYGPT_POSIX)
// While it lives, the calling thread lets no signal in, and threads it starts never will: signals are for the threads
// of the program that pygpt is a guest of. What a thread does to itself still reaches it.
class SignalsBlocked {
public:
    SignalsBlocked() {
        sigset_t all;
        sigfillset(&all);
        for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) sigdelset(&all, own);
        pthread_sigmask(SIG_SETMASK, &all, &old_);
    }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &old_, nullptr); }

private:
    sigset_t old_;
};
#else
struct SignalsBlocked {};
#endif

#if defined(__linux__)
int current_cpu() { return sched_getcpu(); }

// Moves the calling thread if it runs on this CPU. A worker that wakes there gets nothing to do but what the leader
// leaves, sleeps again, and is never long enough awake for the system to move it. Where it may run stays as it was.
void leave_cpu(int cpu) {
    cpu_set_t allowed;
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getcpu() != cpu) return;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    cpu_set_t others = allowed;
    CPU_CLR(static_cast<std::size_t>(cpu), &others);
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0) return;
    sched_setaffinity(0, sizeof allowed, &allowed);
}
#else
int current_cpu() { return -1; }
void leave_cpu(int) {}
#endif

}  // namespace

void Signal::wake() {
    if (sleepers_.load(std::memory_order_seq_cst) > 0) value_.notify_all();
}

bool Signal::wait_while(unsigned old) {
    const auto end = std::chrono::steady_clock::now() + kLook;
    do {
        for (int i = 0; i < 32; ++i) {
            if (value() != old) return false;
            pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    // Either wake() sees that somebody sleeps, or the sleeper sees the new value: both write before they read.
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    value_.wait(old, std::memory_order_seq_cst);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
    return true;
}

Team::~Team() {
    parting_.store(true, std::memory_order_relaxed);
    rouse();
    for (std::thread& worker : workers_) worker.join();
}

void Team::hire(int workers) {
    if (static_cast<int>(workers_.size()) >= workers) return;
    const SignalsBlocked blocked;
    try {
        workers_.reserve(static_cast<std::size_t>(workers));
        while (static_cast<int>(workers_.size()) < workers) {
            workers_.emplace_back([this, thread = size()] { serve(thread); });
        }
    } catch (const std::system_error&) {  // no more threads for this process
    } catch (const std::bad_alloc&) {
    }
}

void Team::rouse() {
    rounds_.add(1);
    rounds_.wake();
}

// A round lasts until all its tasks are done, so whoever was given one may read body_ and tasks_; whoever comes late
// gets none, or one of a later round, and never sees the two change. Nobody is counted in or out.
void Team::work(int thread) {
    unsigned ran = 0;
    while (left_.load(std::memory_order_relaxed) > 0) {
        const int left = left_.fetch_sub(1, std::memory_order_acquire);
        if (left <= 0) break;
        try {
            (*body_)(tasks_ - left, thread);
        } catch (...) {
            if (!failed_.exchange(true, std::memory_order_relaxed)) thrown_ = std::current_exception();
        }
        ++ran;
    }
    if (ran == 0) return;
    done_.add(ran);
    done_.wake();
}

void Team::parallel_for(int tasks, const Body& body) {
    if (workers_.empty() || tasks <= 1) {
        for (int task = 0; task < tasks; ++task) body(task, 0);
        return;
    }
    body_ = &body;
    tasks_ = tasks;
    expected_ += static_cast<unsigned>(tasks);
    left_.store(tasks, std::memory_order_release);
    rouse();
    work(0);
    for (unsigned done = done_.value(); done != expected_; done = done_.value()) done_.wait_while(done);
    if (failed_.load(std::memory_order_relaxed)) {
        failed_.store(false, std::memory_order_relaxed);
        std::rethrow_exception(std::exchange(thrown_, nullptr));
    }
}

void Team::serve(int thread) {
    leave_cpu(leader_cpu_.load(std::memory_order_relaxed));
    for (unsigned seen = rounds_.value(); !parting_.load(std::memory_order_relaxed); seen = rounds_.value()) {
        work(thread);
        if (rounds_.wait_while(seen)) leave_cpu(leader_cpu_.load(std::memory_order_relaxed));
    }
}

// Teams between two calls. In a child process after fork() the workers of the parent's do not exist.
struct Threads::Pool {
    std::mutex mutex;
    std::vector<std::unique_ptr<Team>> idle;
};

// A team taken from the pool for one call.
class Threads::Lease {
public:
    Lease(Pool& pool, int count) : pool_(pool) {
        {
            const std::lock_guard lock(pool_.mutex);
            pool_.idle.reserve(kSpareTeams);  // so that giving back needs no memory
            if (!pool_.idle.empty()) {
                team_ = std::move(pool_.idle.back());
                pool_.idle.pop_back();
            }
        }
        if (team_ == nullptr) team_ = std::make_unique<Team>();
        team_->leader_cpu_.store(current_cpu(), std::memory_order_relaxed);
        team_->hire(count - 1);
        team_->rouse();
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() {
        if (this_process() != process_) {  // `lead` forked
            static_cast<void>(team_.release());
            return;
        }
        const std::lock_guard lock(pool_.mutex);
        if (pool_.idle.size() < kSpareTeams) pool_.idle.push_back(std::move(team_));
    }

    Team& team() { return *team_; }

private:
    const ProcessId process_ = this_process();
    Pool& pool_;
    std::unique_ptr<Team> team_;
};

Threads::Threads(int count) : count_(std::clamp(count, 1, kMost)), pool_(std::make_unique<Pool>()) {}

Threads::~Threads() = default;

void Threads::run(const std::function<void(Team&)>& lead) const {
    if (count_ == 1) {
        Team alone;
        lead(alone);
        return;
    }
    Lease lease(pool_.get([] { return std::make_unique<Pool>(); }), count_);
    lead(lease.team());
}

}  // namespace pygpt
