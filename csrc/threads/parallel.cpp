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

void Bell::ring() {
    // A fence on both sides, and not the order of sequentially consistent stores and loads: QEMU 7 runs Arm's without
    // it.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_relaxed) == 0) return;
    rung_.fetch_add(1, std::memory_order_seq_cst);
    rung_.notify_all();
}

template <class There>
bool Bell::wait(There there) {
    const auto end = std::chrono::steady_clock::now() + kLook;
    do {
        for (int i = 0; i < 32; ++i) {
            if (there()) return false;
            pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    // Either ring() sees that somebody sleeps, or the sleeper sees what is there: both write before they read.
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    for (unsigned rung = rung_.load(); !there(); rung = rung_.load()) rung_.wait(rung, std::memory_order_seq_cst);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
    return true;
}

Team::Team(int threads, const Regions* regions) : regions_(regions), seats_(static_cast<std::size_t>(threads)) {}

Team::~Team() {
    parting_.store(true, std::memory_order_relaxed);
    rouse();
    for (std::thread& worker : workers_) worker.join();
}

void Team::prepare() {
    if (regions_ != nullptr) {
        const SignalsBlocked blocked;
        regions_->run(static_cast<int>(seats_.size()), [](void*, int) {}, nullptr);
        return;
    }
    leader_cpu_.store(current_cpu(), std::memory_order_relaxed);
    hire();
    rouse();
}

void Team::hire() {
    const std::size_t workers = seats_.size() - 1;
    if (workers_.size() >= workers) return;
    const SignalsBlocked blocked;
    try {
        workers_.reserve(workers);
        while (workers_.size() < workers) {
            workers_.emplace_back([this, thread = size()] { serve(thread); });
        }
    } catch (const std::system_error&) {  // no more threads for this process
    } catch (const std::bad_alloc&) {
    }
}

void Team::begin(int tasks) {
    expected_ += static_cast<unsigned>(tasks);
    const std::uint64_t number = (round_.load(std::memory_order_relaxed) >> kTaskBits) + 1;
    round_.store(number << kTaskBits | static_cast<unsigned>(tasks), std::memory_order_release);
    begun_.ring();
}

// Runs what is left of a thread's share, as another thread if need be. A seat that nobody has come to in this round
// still shows an earlier one, which is a smaller number. A round lasts until all its tasks are done, so whoever took
// one may read body_ and first_; whoever comes late finds the shares at their ends, or at a later round, and takes
// none. Nobody is counted in or out.
int Team::run_share(int of, int thread, std::uint64_t round) {
    const std::uint64_t tasks = round & kMostTasks, number = round - tasks, n = seats_.size();
    const auto place = static_cast<std::uint64_t>(of);
    const std::uint64_t begin = number + place * tasks / n, end = number + (place + 1) * tasks / n;
    std::atomic<std::uint64_t>& next = seats_[static_cast<std::size_t>(of)].next;
    int ran = 0;
    for (std::uint64_t seen = next.load(std::memory_order_relaxed);;) {
        const std::uint64_t task = std::max(seen, begin);
        if (task >= end) return ran;
        if (!next.compare_exchange_weak(seen, task + 1, std::memory_order_relaxed)) continue;
        try {
            body_(first_ + static_cast<int>(task - number), thread);
        } catch (...) {
            if (!failed_.exchange(true, std::memory_order_relaxed)) thrown_ = std::current_exception();
        }
        ++ran;
        seen = task + 1;
    }
}

// The thread's own share first, then what its neighbours have left. Each is reported at once: the leader is not to wait
// for the search that follows.
void Team::work(int thread, std::uint64_t round) {
    std::atomic<unsigned>& done = seats_[static_cast<std::size_t>(thread)].done;
    const int n = static_cast<int>(seats_.size());
    for (int i = 0; i < n && round_.load(std::memory_order_relaxed) == round; ++i) {
        const int ran = run_share((thread + i) % n, thread, round);
        if (ran == 0) continue;
        done.store(done.load(std::memory_order_relaxed) + static_cast<unsigned>(ran), std::memory_order_release);
        if (thread != 0) ended_.ring();
    }
}

bool Team::finished() const {
    unsigned done = 0;
    for (const Seat& seat : seats_) done += seat.done.load(std::memory_order_acquire);
    return done == expected_;
}

void Team::run_round(int first, int tasks, Body body) {
    body_ = body;
    first_ = first;
    begin(tasks);
    if (regions_ != nullptr && regions_->process == this_process()) {
        const auto enter = [](void* team, int thread) {
            Team& t = *static_cast<Team*>(team);
            t.work(thread, t.round_.load(std::memory_order_acquire));
        };
        regions_->run(static_cast<int>(seats_.size()), enter, this);
    } else {
        work(0, round_.load(std::memory_order_relaxed));
    }
    if (!finished()) ended_.wait([this] { return finished(); });
    if (failed_.load(std::memory_order_relaxed)) {
        failed_.store(false, std::memory_order_relaxed);
        std::rethrow_exception(std::exchange(thrown_, nullptr));
    }
}

void Team::parallel_for(int tasks, Body body) {
    if (size() == 1 || tasks <= 1) {
        for (int task = 0; task < tasks; ++task) body(task, 0);
        return;
    }
    for (int first = 0, some = 0; first < tasks; first += some) {
        some = std::min(tasks - first, kMostTasks);
        run_round(first, some, body);
    }
}

void Team::serve(int thread) {
    leave_cpu(leader_cpu_.load(std::memory_order_relaxed));
    for (std::uint64_t seen = 0; !parting_.load(std::memory_order_relaxed);) {
        const auto begun = [&] { return round_.load(std::memory_order_acquire) != seen; };
        if (begun_.wait(begun)) leave_cpu(leader_cpu_.load(std::memory_order_relaxed));
        seen = round_.load(std::memory_order_acquire);
        work(thread, seen);
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
    Lease(Pool& pool, int count, const Regions* regions) : pool_(pool) {
        {
            const std::lock_guard lock(pool_.mutex);
            pool_.idle.reserve(kSpareTeams);  // so that giving back needs no memory
            if (!pool_.idle.empty()) {
                team_ = std::move(pool_.idle.back());
                pool_.idle.pop_back();
            }
        }
        if (team_ == nullptr) {
            team_ = std::make_unique<Team>(
                count, regions != nullptr && regions->process == this_process() ? regions : nullptr);
        }
        team_->prepare();
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

Threads::Threads(int count, const Regions* regions)
    : count_(std::clamp(count, 1, kMost)), regions_(regions), pool_(std::make_unique<Pool>()) {}

Threads::~Threads() = default;

void Threads::run(FunctionRef<void(Team&)> lead) const {
    if (count_ == 1) {
        Team alone(1, nullptr);
        lead(alone);
        return;
    }
    Lease lease(pool_.get([] { return std::make_unique<Pool>(); }), count_, regions_);
    lead(lease.team());
}

}  // namespace pygpt
