// Session.
#include <memory>

#include "bindings/module.h"
#include "model/engine.h"

namespace pygpt {

void bind_session(py::module_& m) {
    py::class_<Session, std::shared_ptr<Session>>(m, "Session")
        .def_property_readonly("length", &Session::length)
        .def("fork", &Session::fork)
        .def("truncate", &Session::truncate, py::arg("length"))
        .def("keep", &Session::keep, py::arg("n"));
}

}  // namespace pygpt
