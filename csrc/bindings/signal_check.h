// Ctrl-C during a forward pass.
#pragma once

#include <chrono>

#include "bindings/module.h"

namespace pygpt {

// Stops a forward pass for a pending signal. Asking Python takes the interpreter's lock, so that is done every few
// milliseconds only.
class SignalCheck {
public:
    explicit SignalCheck(GilReleased& released) : released_(released) {}

    void operator()() {
        const auto now = std::chrono::steady_clock::now();
        if (now - last_ < std::chrono::milliseconds(5)) return;
        last_ = now;
        released_.check_signals();
    }

private:
    GilReleased& released_;
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace pygpt
