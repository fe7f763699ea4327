// What the binding files share. One file binds one class; module.cpp puts them together.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <atomic>

namespace pygpt {

namespace py = pybind11;

// Asked before every layer; set from any thread.
class CancelFlag {
public:
    void set() { set_ = true; }
    bool is_set() const { return set_; }

private:
    std::atomic<bool> set_{false};
};

void bind_builder(py::module_& m);
void bind_engine(py::module_& m);
void bind_session(py::module_& m);
void bind_sampler(py::module_& m);
void bind_machine(py::module_& m);

}  // namespace pygpt
