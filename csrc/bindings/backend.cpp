#include "bindings/backend.h"

#include <cstdlib>

#include "base/error.h"
#include "bindings/module.h"
#include "bindings/openmp/capsule.h"

namespace pygpt {

namespace {

// Null, and why, where it cannot be had: it was not built, or its runtime library is not there.
const Regions* load_openmp(std::string& why) {
    try {
        const py::object regions = py::module_::import("pygpt._openmp").attr("regions");
        const void* const found = PyCapsule_GetPointer(regions.ptr(), kRegionsCapsule);
        if (found == nullptr) throw py::error_already_set();
        return static_cast<const Regions*>(found);
    } catch (py::error_already_set& error) {
        if (!error.matches(PyExc_ImportError)) throw;
        why = error.matches(PyExc_ModuleNotFoundError) ? "pygpt was built by a compiler without OpenMP"
                                                       : py::str(error.value()).cast<std::string>();
        return nullptr;
    }
}

}  // namespace

std::vector<std::string> usable_backends() {
    std::string why;
    std::vector<std::string> names{"own"};
    if (load_openmp(why) != nullptr) names.emplace_back("openmp");
    return names;
}

const Regions* choose_backend(const std::optional<std::string>& name) {
    std::string wanted = name.value_or(""), source = "threads_backend", why = "is not a backend";
    if (!name) {
        source = "PYGPT_THREADS_BACKEND";
        if (const char* env = std::getenv(source.c_str())) wanted = env;
        if (wanted.empty()) return nullptr;
    }
    if (wanted == "own") return nullptr;
    if (wanted == "openmp") {
        if (const Regions* regions = load_openmp(why)) return regions;
    }
    throw InvalidArgument(source + "='" + wanted + "': " + why +
                          "; allowed are 'own' and, where it can be loaded, 'openmp'");
}

}  // namespace pygpt
