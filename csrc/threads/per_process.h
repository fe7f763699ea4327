// What a child process after fork() must not share with its parent.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace pygpt {

#if defined(__unix__) || defined(__APPLE__)
using ProcessId = pid_t;
inline ProcessId this_process() { return getpid(); }
#else
using ProcessId = int;
inline ProcessId this_process() { return 0; }
#endif

// A T for each process. Another thread of the parent may have been changing its T, or held its mutex, when the process
// forked: the child leaves that copy alone, for ever, and makes a T of its own.
template <class T>
class PerProcess {
public:
    explicit PerProcess(std::unique_ptr<T> first) : place_(new Place{this_process(), std::move(first)}) {}
    PerProcess(const PerProcess&) = delete;
    PerProcess& operator=(const PerProcess&) = delete;
    ~PerProcess() {
        Place* place = place_.load(std::memory_order_acquire);
        if (place->process == this_process()) delete place;
    }

    // make() gives the T of a process that has none yet; safe from any thread.
    template <class Make>
    T& get(Make make) const {
        Place* place = place_.load(std::memory_order_acquire);
        if (place->process == this_process()) return *place->value;
        auto fresh = std::make_unique<Place>(Place{this_process(), make()});
        if (place_.compare_exchange_strong(place, fresh.get(), std::memory_order_acq_rel)) {
            return *fresh.release()->value;
        }
        return *place->value;  // another thread of the child was first
    }

private:
    struct Place {
        ProcessId process;
        std::unique_ptr<T> value;
    };

    mutable std::atomic<Place*> place_;
};

}  // namespace pygpt
