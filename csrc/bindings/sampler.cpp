// Sampler.
#include "model/sampler.h"

#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "bindings/module.h"
#include "model/engine.h"

namespace pygpt {

namespace {

using Ids = py::array_t<std::int32_t, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;
using Words = py::array_t<std::uint32_t, py::array::c_style>;

// One value by name for each field, and no others.
Sampler make(const py::kwargs& values) {
    SamplerOptions options;
    std::size_t n_fields = 0;
    visit_fields(options, [&](const char* name, auto& field) {
        if (!values.contains(name)) throw py::type_error(std::string("Sampler needs ") + name);
        field = values[name].template cast<std::decay_t<decltype(field)>>();
        ++n_fields;
    });
    if (values.size() != n_fields) throw py::type_error("Sampler was given options that it does not have");
    return Sampler(options);
}

py::tuple option_names() {
    py::list names;
    const SamplerOptions options;
    visit_fields(options, [&](const char* name, const auto&) { names.append(name); });
    return py::tuple(names);
}

// What is drawn from lies in the caller's arrays. Where another thread writes to them meanwhile, the token is whatever
// that makes it.
Draw checked(const Sampler& sampler, const Floats& logits, const Ids& history, std::uint64_t sequence,
             std::uint64_t position, std::size_t n_prompt, const std::optional<Words>& mask) {
    if (logits.ndim() != 1 || logits.size() == 0) throw InvalidArgument("logits must be one row of at least one value");
    if (history.ndim() != 1) throw InvalidArgument("history must be one row of ids");
    const std::span<const std::int32_t> ids(history.data(), static_cast<std::size_t>(history.size()));
    for (const std::int32_t id : ids) {
        if (id < 0 || id >= logits.size()) {
            throw InvalidArgument("history holds " + std::to_string(id) + ", outside the " +
                                  std::to_string(logits.size()) + " logits");
        }
    }
    std::span<const std::uint32_t> words;
    if (mask) {
        if (mask->ndim() != 1 || mask->size() != (logits.size() + 31) / 32) {
            throw InvalidArgument("mask must be one row with a bit for each of the " + std::to_string(logits.size()) +
                                  " logits, in words of 32");
        }
        words = {mask->data(), static_cast<std::size_t>(mask->size())};
    }
    return {&sampler, {logits.data(), static_cast<std::size_t>(logits.size())}, ids, n_prompt, sequence, position,
            words};
}

// What `checked` takes: a sampler, logits, history, sequence, position, n_prompt and mask.
using Arguments =
    std::tuple<const Sampler&, Floats, Ids, std::uint64_t, std::uint64_t, std::size_t, std::optional<Words>>;

std::vector<int> draw(const Engine& engine, const py::sequence& draws) {
    std::vector<Arguments> arguments;  // keep what they had to convert
    arguments.reserve(draws.size());
    std::vector<Draw> several;
    for (const py::handle item : draws) {
        arguments.push_back(item.cast<Arguments>());
        several.push_back(std::apply(checked, arguments.back()));
    }
    std::vector<int> tokens(several.size());
    const GilReleased released;
    draw_all(engine.kernels(), engine.threads(), several, tokens);
    return tokens;
}

}  // namespace

void bind_sampler(py::module_& m) {
    py::class_<Sampler>(m, "Sampler")
        .def(py::init(&make))
        .def_property_readonly_static("options", [](const py::object&) { return option_names(); });
    m.def("draw", &draw, py::arg("engine"), py::arg("draws"));
}

}  // namespace pygpt
