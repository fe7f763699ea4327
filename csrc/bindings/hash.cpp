// Checksums.
#include "base/error.h"
#include "base/xxh64.h"
#include "bindings/module.h"

namespace pygpt {

void bind_hash(py::module_& m) {
    m.def(
        "xxh64",
        [](const py::array& data, std::uint64_t seed) {
            if ((data.flags() & py::array::c_style) == 0) throw InvalidArgument("data must be C-contiguous");
            const std::span bytes(static_cast<const std::byte*>(data.data()), static_cast<std::size_t>(data.nbytes()));
            const GilReleased released;
            return xxh64(bytes, seed);
        },
        py::arg("data"), py::arg("seed") = std::uint64_t{0});
}

}  // namespace pygpt
