// What the core throws; bindings/ turns each into its Python exception.
#pragma once

#include <stdexcept>
#include <string>

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

}  // namespace pygpt
