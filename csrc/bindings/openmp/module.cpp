// The module _openmp: nothing but a capsule of OpenMP's regions, for bindings/backend.cpp. It is loaded when they are
// asked for.
#include <pybind11/pybind11.h>

#include "bindings/openmp/capsule.h"
#include "threads/openmp.h"

PYBIND11_MODULE(_openmp, m) {
    m.doc() = "OpenMP for pygpt's core. Private: use Model.load(threads_backend=\"openmp\").";
    m.attr("regions") = pybind11::capsule(&pygpt::kOpenMpRegions, pygpt::kRegionsCapsule);
}
