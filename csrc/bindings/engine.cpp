// Engine.
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include <pybind11/stl.h>
#include "base/error.h"

#include "bindings/module.h"
#include "model/engine.h"

namespace pygpt {

namespace {

using Ids = py::array_t<std::int32_t, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;

// Stops a forward pass once nobody wants it, every one of its flags being set, or for a pending signal. Asking Python
// takes the interpreter's lock, so that is done every few milliseconds only.
class StopCheck {
public:
    StopCheck(std::vector<const CancelFlag*> flags, GilReleased& released)
        : flags_(std::move(flags)), released_(released) {}

    void operator()() {
        const auto is_set = [](const CancelFlag* flag) { return flag->is_set(); };
        if (!flags_.empty() && std::all_of(flags_.begin(), flags_.end(), is_set))
            throw Cancelled("the computation was cancelled");
        const auto now = std::chrono::steady_clock::now();
        if (now - last_ < std::chrono::milliseconds(5)) return;
        last_ = now;
        released_.check_signals();
    }

private:
    std::vector<const CancelFlag*> flags_;
    GilReleased& released_;
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

Output output_named(const std::string& name) {
    if (name == "last") return Output::last;
    if (name == "all") return Output::all;
    if (name == "hidden") return Output::hidden;
    throw InvalidArgument("output='" + name + "' is not one of 'last', 'all', 'hidden'");
}

py::list forward(const Engine& engine, const py::sequence& batch, const std::string& output_name,
                 const std::variant<const CancelFlag*, std::vector<const CancelFlag*>>& cancel) {
    const Output output = output_named(output_name);
    std::vector<std::shared_ptr<Session>> sessions;
    std::vector<std::vector<int>> ids;  // copies: other threads may write to the caller's arrays meanwhile
    py::ssize_t rows = 0;
    for (const py::handle item : batch) {
        std::shared_ptr<Session> session;
        Ids tokens;
        try {
            std::tie(session, tokens) = item.cast<std::pair<std::shared_ptr<Session>, Ids>>();
        } catch (const py::cast_error&) {
            session = nullptr;
        }
        if (session == nullptr) throw py::type_error("batch must hold pairs of a session and an array of int32");
        if (tokens.ndim() != 1)
            throw InvalidArgument("tokens must have 1 dimension, not " + std::to_string(tokens.ndim()));
        rows += output == Output::last ? 1 : tokens.size();
        sessions.push_back(session);
        ids.emplace_back(tokens.data(), tokens.data() + tokens.size());
    }
    std::vector<SequenceInput> inputs;
    for (std::size_t i = 0; i < ids.size(); ++i) inputs.push_back({sessions[i].get(), ids[i]});
    std::vector<const CancelFlag*> flags;
    if (const auto* several = std::get_if<1>(&cancel)) flags = *several;
    if (const auto* one = std::get_if<0>(&cancel); one != nullptr && *one != nullptr) flags.push_back(*one);
    if (std::find(flags.begin(), flags.end(), nullptr) != flags.end()) throw py::type_error("cancel must hold flags");
    const py::ssize_t width = engine.output_width(output);
    engine.check(inputs);  // before memory is allocated by their size
    Floats result({rows, width});
    float* data = result.mutable_data();
    {
        GilReleased released;
        StopCheck check(flags, released);
        engine.forward(inputs, output, std::ref(check), data);
    }
    py::list out;
    py::ssize_t row = 0;
    for (const std::vector<int>& tokens : ids) {
        if (output == Output::last) {
            out.append(result[py::int_(row++)]);
        } else {
            const auto end = row + static_cast<py::ssize_t>(tokens.size());
            out.append(result[py::slice(row, end, 1)]);
            row = end;
        }
    }
    return out;
}

// Views of the weights, which keep the engine alive: {name: (dtype, array)}.
py::dict tensors(const std::shared_ptr<Engine>& engine) {
    const py::object owner = py::cast(engine);
    py::dict out;
    for (const PackedTensor& t : engine->tensors()) {
        py::array array(py::dtype(numpy_name(t.dtype)), t.shape, t.data, owner);
        array.attr("flags").attr("writeable") = false;
        out[py::str(t.name)] = py::make_tuple(name_of(t.dtype), array);
    }
    return out;
}

Floats log_softmax(const Engine& engine, const Floats& logits) {
    if (logits.ndim() != 1 && logits.ndim() != 2) throw InvalidArgument("logits must have 1 or 2 dimensions");
    const py::ssize_t width = logits.shape(logits.ndim() - 1);
    if (width == 0) throw InvalidArgument("logits must have at least one value in a row");
    Floats result(std::vector<py::ssize_t>(logits.shape(), logits.shape() + logits.ndim()));
    const float* from = logits.data();
    float* to = result.mutable_data();
    const py::ssize_t size = logits.size();
    const GilReleased released;
    for (py::ssize_t at = 0; at < size; at += width) engine.kernels().log_softmax(from + at, to + at, width);
    return result;
}

}  // namespace

void bind_engine(py::module_& m) {
    py::class_<Engine, std::shared_ptr<Engine>>(m, "Engine")
        .def_property_readonly("isa", [](const Engine& e) { return e.kernels().name; })
        .def_property_readonly("threads", &Engine::threads)
        .def_property_readonly("weight_bytes", &Engine::weight_bytes)
        .def_property_readonly("kv_bytes_per_token", &Engine::kv_bytes_per_token)
        .def("tensors", &tensors)
        .def("session", &Engine::session)
        .def("forward", &forward, py::arg("batch"), py::kw_only(), py::arg("output") = "last",
             py::arg("cancel") = static_cast<const CancelFlag*>(nullptr))
        .def("log_softmax", &log_softmax, py::arg("logits"));
}

}  // namespace pygpt
