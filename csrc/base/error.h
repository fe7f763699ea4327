// What the core throws; bindings/ turns each into its Python exception.
#pragma once

#include <cstdint>
#include <cstdio>
#include <new>
#include <stdexcept>

namespace pygpt {

// A value the caller may not pass: ValueError.
struct InvalidArgument : std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

// More tokens than the context holds: pygpt.errors.ContextOverflowError.
struct ContextOverflow : std::length_error {
    using std::length_error::length_error;
};

// Stopped on request: pygpt.errors.Cancelled.
struct Cancelled : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// More memory than there is: MemoryError. The message has its place in the object, since there may be none elsewhere.
class OutOfMemory : public std::bad_alloc {
public:
    OutOfMemory(std::uint64_t wanted, std::uint64_t available) noexcept {
        std::snprintf(text_, sizeof text_, "%llu MiB of memory are needed, and %llu MiB are available",
                      mebibytes(wanted), mebibytes(available));
    }
    const char* what() const noexcept override { return text_; }

private:
    static unsigned long long mebibytes(std::uint64_t bytes) { return bytes >> 20; }

    char text_[96];
};

}  // namespace pygpt
