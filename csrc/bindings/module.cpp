#include "bindings/module.h"

#include "base/error.h"

namespace pygpt {

namespace {

// Raises the class of pygpt.errors that is called `name`.
void raise(const char* name, const char* message) {
    const py::object type = py::module_::import("pygpt.errors").attr(name);
    PyErr_SetString(type.ptr(), message);
}

void translate(std::exception_ptr thrown) {
    try {
        if (thrown) std::rethrow_exception(thrown);
    } catch (const ContextOverflow& e) {
        raise("ContextOverflowError", e.what());
    } catch (const Cancelled& e) {
        raise("Cancelled", e.what());
    } catch (const InvalidArgument& e) {
        PyErr_SetString(PyExc_ValueError, e.what());
    }
}

}  // namespace

PYBIND11_MODULE(_core, m) {
    m.doc() = "The C++ core of pygpt. Private: use pygpt.Model.";
    py::register_exception_translator(translate);
    py::class_<CancelFlag, std::shared_ptr<CancelFlag>>(m, "CancelFlag")
        .def(py::init<>())
        .def("set", &CancelFlag::set)
        .def("is_set", &CancelFlag::is_set);
    bind_config(m);
    bind_session(m);
    bind_engine(m);
    bind_builder(m);
    bind_sampler(m);
    bind_machine(m);
    bind_blocks(m);
    bind_strings(m);
    bind_hash(m);
    bind_training(m);
}

}  // namespace pygpt
