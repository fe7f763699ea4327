// Who uses a session.
#pragma once

#include <utility>

#include "base/error.h"
#include "model/engine.h"

namespace pygpt {

// Marks a session as in use, or throws.
class SessionLock {
public:
    explicit SessionLock(const Session& session) : session_(&session) {
        if (session.busy_.exchange(true))
            throw InvalidArgument("a session is in use by another call, or twice in this batch");
    }
    SessionLock(SessionLock&& other) noexcept : session_(std::exchange(other.session_, nullptr)) {}
    SessionLock(const SessionLock&) = delete;
    SessionLock& operator=(const SessionLock&) = delete;
    SessionLock& operator=(SessionLock&&) = delete;
    ~SessionLock() {
        if (session_ != nullptr) session_->busy_ = false;
    }

private:
    const Session* session_;
};

}  // namespace pygpt
