// What the binding files share. One file binds one class; module.cpp puts them together.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "base/dtype.h"

namespace pygpt {

namespace py = pybind11;

class Engine;

// What NumPy calls a type; bfloat16, which it lacks, travels as uint16.
inline const char* numpy_name(DType t) {
    return t == DType::f32    ? "float32"
           : t == DType::f16  ? "float16"
           : t == DType::bf16 ? "uint16"
           : t == DType::i8   ? "int8"
                              : "uint8";
}
inline const char* name_of(DType t) { return t == DType::bf16 ? "bfloat16" : numpy_name(t); }

// Asked before every layer; set from any thread.
class CancelFlag {
public:
    void set() { set_ = true; }
    bool is_set() const { return set_; }
    const std::atomic<bool>& flag() const { return set_; }

private:
    std::atomic<bool> set_{false};
};

// Lets Python's other threads run while it lives. Where the interpreter has ended meanwhile, the thread stays here:
// Python would end it by unwinding its stack, and the first destructor in the way would abort the process.
class GilReleased {
public:
    GilReleased() : state_(PyEval_SaveThread()) {}
    GilReleased(const GilReleased&) = delete;
    GilReleased& operator=(const GilReleased&) = delete;
    ~GilReleased() { take(); }

    // Runs signal handlers that are due, and passes on what they raise.
    void check_signals() {
        take();
        const Give give{*this};
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    }

private:
    struct Give {
        GilReleased& to;
        ~Give() { to.state_ = PyEval_SaveThread(); }
    };

    void take() noexcept {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {
            for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
        }
    }

    PyThreadState* state_;
};

void bind_config(py::module_& m);
void bind_builder(py::module_& m);
void bind_engine(py::module_& m);
void bind_trace(py::class_<Engine, std::shared_ptr<Engine>>& engine);
void bind_session(py::module_& m);
void bind_sampler(py::module_& m);
void bind_machine(py::module_& m);
void bind_blocks(py::module_& m);
void bind_strings(py::module_& m);
void bind_hash(py::module_& m);
void bind_training(py::module_& m);

}  // namespace pygpt
