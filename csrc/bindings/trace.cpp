// What is inside a forward pass: Engine.trace and Engine.read_out.
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <pybind11/stl.h>

#include "bindings/arrays.h"
#include "bindings/choice.h"
#include "bindings/module.h"
#include "bindings/signal_check.h"
#include "model/engine.h"
#include "model/recorder.h"

namespace pygpt {

namespace {

using Ids = py::array_t<std::int32_t, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;
using RecordArgs = std::tuple<std::string, int, py::array>;
using PatchArgs = std::tuple<std::string, int, int, py::array, py::array>;

Site site_of(const ModelConfig& config, const std::string& name, int layer) {
    const Site site = choose<Site>("site", name);
    if (layer < 0 || layer >= config.n_layer() || (site == Site::embedding && layer != 0))
        throw InvalidArgument("there is no " + name + " of layer " + std::to_string(layer));
    return site;
}

std::vector<Record> read_records(const ModelConfig& config, const std::vector<RecordArgs>& records, py::ssize_t n) {
    std::vector<Record> out;
    for (const auto& [name, layer, array] : records) {
        const Site site = site_of(config, name, layer);
        out.push_back({site, layer, elements<float>(name.c_str(), array, {n, site_width(config, site, layer)})});
    }
    return out;
}

std::vector<Patch> read_patches(const ModelConfig& config, const std::vector<PatchArgs>& patches, py::ssize_t n) {
    std::vector<Patch> out;
    for (const auto& [name, layer, first, rows, values] : patches) {
        const Site site = site_of(config, name, layer);
        int n_rows = 0, width = 0;
        const auto* const from = elements<const float>("values", values, {&n_rows, &width});
        const auto* const row_of = elements<const std::int32_t>("rows", rows, {n});
        if (first < 0 || first > site_width(config, site, layer) - width)
            throw InvalidArgument("a patch of " + name + " of layer " + std::to_string(layer) + " is too wide");
        for (py::ssize_t i = 0; i < n; ++i) {
            if (row_of[i] >= n_rows) throw InvalidArgument("a patch lacks rows");
        }
        out.push_back({site, layer, first, width, row_of, from});
    }
    return out;
}

Floats trace(const Engine& engine, const Ids& tokens, const std::vector<RecordArgs>& records,
             const std::vector<PatchArgs>& patches) {
    if (tokens.ndim() != 1) throw InvalidArgument("tokens must have 1 dimension, not " + std::to_string(tokens.ndim()));
    const std::vector<int> ids(tokens.data(), tokens.data() + tokens.size());
    const auto session = engine.session();
    SequenceInput input{session.get(), ids, Output::all, nullptr};
    engine.check({&input, 1});  // before memory is allocated by their size
    const Tap tap = Recorder(engine.config(), read_records(engine.config(), records, tokens.size()),
                             read_patches(engine.config(), patches, tokens.size()));
    Floats logits({tokens.size(), static_cast<py::ssize_t>(engine.config().n_vocab)});
    input.out = logits.mutable_data();
    GilReleased released;
    SignalCheck check(released);
    engine.forward({&input, 1}, std::ref(check), &tap);
    return logits;
}

Floats read_out(const Engine& engine, const Floats& states) {
    int n = 0;
    const auto* const from = elements<const float>("states", states, {&n, engine.config().n_embd});
    Floats logits({static_cast<py::ssize_t>(n), static_cast<py::ssize_t>(engine.config().n_vocab)});
    float* const to = logits.mutable_data();
    GilReleased released;
    SignalCheck check(released);
    engine.read_out(from, n, to, std::ref(check));
    return logits;
}

}  // namespace

void bind_trace(py::class_<Engine, std::shared_ptr<Engine>>& engine) {
    engine.def("trace", &trace, py::arg("tokens"), py::arg("records"), py::arg("patches"))
        .def("read_out", &read_out, py::arg("states"));
}

}  // namespace pygpt
