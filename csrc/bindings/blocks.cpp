// The block types of GGUF files, for whoever reads them outside of an engine.
#include <pybind11/stl.h>

#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/choice.h"
#include "kernels/select.h"

namespace pygpt {

namespace {

const Kernels& best_kernels() { return *runnable_kernels().front(); }

const BlockFormat& choose_blocks(const std::string& name) {
    const Kernels& kernels = best_kernels();
    std::vector<const char*> names;
    for (const BlockFormat& format : kernels.blocks) names.push_back(format.name);
    return kernels.blocks.at(choose("name", name, names));
}

}  // namespace

void bind_blocks(py::module_& m) {
    m.def("block_formats", [] {
        py::dict formats;
        for (const BlockFormat& f : best_kernels().blocks) {
            formats[py::str(f.name)] = std::pair(f.values, f.bytes);
        }
        return formats;
    });
    m.def(
        "dequantize",
        [](const std::string& name, const py::array& blocks) {
            const BlockFormat& format = choose_blocks(name);
            int n = 0;
            const auto* from = elements<const std::uint8_t>("blocks", blocks, {Size(&n), format.bytes});
            py::array_t<float> out({py::ssize_t{n}, py::ssize_t{format.values}});
            float* const to = out.mutable_data();
            const GilReleased released;
            format.dequantize(from, n, to);
            return out;
        },
        py::arg("name"), py::arg("blocks"));
}

}  // namespace pygpt
