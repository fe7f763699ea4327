// What `pygpt info` says of the machine and the build.
#include <pybind11/stl.h>

#include "base/system.h"
#include "bindings/backend.h"
#include "bindings/module.h"
#include "cpu/cores.h"
#include "cpu/features.h"
#include "kernels/select.h"

namespace pygpt {

void bind_machine(py::module_& m) {
    m.def("cpu_features", [] {
        py::dict features;
        for (const auto& [name, present] : detect_cpu().list()) features[py::str(name)] = present;
        return features;
    });
    m.def("isa_names", [] {
        std::vector<std::string> names;
        for (const Kernels* k : runnable_kernels()) names.emplace_back(k->name);
        return names;
    });
    m.def(
        "select_isa", [](const std::optional<std::string>& name) { return select_kernels(name.value_or("")).name; },
        py::arg("name"));
    m.def("threads_backends", usable_backends);
    m.def(
        "select_threads_backend",
        [](const std::optional<std::string>& name) { return backend_name(choose_backend(name)); }, py::arg("name"));
    m.def("usable_cores", [] {
        const UsableCores cores = usable_cores();
        return std::pair(cores.count, cores.reason);
    });
    m.def("available_memory", [] { return available_memory(); });
    m.def("build_info", [] {
        py::dict info;
        info["version"] = PYGPT_VERSION;
        info["compiler"] = PYGPT_COMPILER;
        return info;
    });
}

}  // namespace pygpt
