// Session: what it does by itself. Engine::forward makes it grow.
#include <string>

#include "base/error.h"
#include "model/engine.h"
#include "model/kv_store.h"
#include "model/session_lock.h"

namespace pygpt {

Session::Session(std::shared_ptr<const Engine> engine) : engine_(std::move(engine)), cache_(engine_->page_classes_) {}

std::shared_ptr<Session> Session::fork() const {
    const SessionLock lock(*this);
    return std::shared_ptr<Session>(new Session(*this));
}

void Session::truncate(int length) {
    const SessionLock lock(*this);
    if (length < 0 || length > cache_.length()) {
        throw InvalidArgument("length must be between 0 and " + std::to_string(cache_.length()) + ", not " +
                              std::to_string(length));
    }
    cache_.truncate(length);
    length_ = length;
    tentative_ = 0;
}

void Session::keep(int n) {
    const SessionLock lock(*this);
    if (n < 0 || n > tentative_) {
        throw InvalidArgument("the session has " + std::to_string(tentative_) + " tentative tokens, not " +
                              std::to_string(n));
    }
    cache_.commit(cache_.length() + n);
    length_ = cache_.length();
    tentative_ -= n;
}

std::vector<PageList> Session::pages() const {
    const SessionLock lock(*this);
    std::vector<PageList> out;
    for (std::size_t c = 0; c < engine_->layout_.n_classes(); ++c) out.push_back(cache_.shared_pages(c));
    return out;
}

void Session::clear_rest() {
    const SessionLock lock(*this);
    const int length = cache_.length(), slot = length % kPagePositions;
    tentative_ = 0;
    if (slot == 0) return;
    cache_.reserve(length, length + 1);
    for (std::size_t c = 0; c < engine_->layout_.n_classes(); ++c)
        clear_slots(engine_->layout_, c, cache_.shared_pages(c).back()->data(), slot);
}

}  // namespace pygpt
