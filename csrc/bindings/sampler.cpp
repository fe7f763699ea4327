// Sampler.
#include "model/sampler.h"

#include <pybind11/stl.h>

#include "base/error.h"
#include "bindings/module.h"
#include "model/engine.h"

namespace pygpt {

namespace {

using Ids = py::array_t<std::int32_t, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;

int draw(const Sampler& sampler, const Engine& engine, const Floats& logits, const Ids& history, std::uint64_t sequence,
         std::uint64_t position) {
    if (logits.ndim() != 1 || logits.size() == 0) throw InvalidArgument("logits must be one row of at least one value");
    const std::span<const float> row(logits.data(), static_cast<std::size_t>(logits.size()));
    const std::span<const std::int32_t> ids(history.data(), static_cast<std::size_t>(history.size()));
    const GilReleased released;
    return sampler.draw(engine.kernels(), row, ids, sequence, position);
}

}  // namespace

void bind_sampler(py::module_& m) {
    py::class_<Sampler>(m, "Sampler")
        .def(py::init([](double temperature, std::optional<int> top_k, std::optional<double> top_p,
                         std::optional<double> min_p, double repetition_penalty, std::uint64_t seed) {
                 return Sampler({temperature, top_k, top_p, min_p, repetition_penalty, seed});
             }),
             py::kw_only(), py::arg("temperature"), py::arg("top_k"), py::arg("top_p"), py::arg("min_p"),
             py::arg("repetition_penalty"), py::arg("seed"))
        .def("draw", &draw, py::arg("engine"), py::arg("logits"), py::arg("history"), py::arg("sequence"),
             py::arg("position"));
}

}  // namespace pygpt
