// Engine.
#include <array>
#include <deque>
#include <memory>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include <pybind11/stl.h>

#include "base/error.h"
#include "bindings/arrays.h"
#include "bindings/backend.h"
#include "bindings/choice.h"
#include "bindings/module.h"
#include "bindings/page.h"
#include "bindings/signal_check.h"
#include "model/engine.h"

namespace pygpt {

namespace {

using Ids = py::array_t<std::int32_t, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;

Output output_named(const std::string& name) {
    return static_cast<Output>(choose("output", name, std::array{"none", "last", "all", "hidden"}));
}

// One value for the whole batch, or one a sequence.
template <class T>
using PerSequence = std::variant<T, std::vector<T>>;

template <class T>
std::vector<T> for_each_sequence(const PerSequence<T>& values, std::size_t n, const char* name) {
    if (const T* one = std::get_if<0>(&values)) return std::vector<T>(n, *one);
    const std::vector<T>& several = std::get<1>(values);
    if (several.size() != n) {
        throw InvalidArgument(std::string(name) + " must be one or one for each of the " + std::to_string(n) +
                              " sequences, not " + std::to_string(several.size()));
    }
    return several;
}

std::vector<int> copied(const Ids& tokens) {
    if (tokens.ndim() != 1) {
        throw InvalidArgument("tokens must have 1 dimension, not " + std::to_string(tokens.ndim()));
    }
    return {tokens.data(), tokens.data() + tokens.size()};
}

// The batch as the engine takes it, with copies of the tokens: other threads may write to the caller's arrays
// meanwhile.
struct BatchInput {
    std::vector<std::shared_ptr<Session>> sessions;
    std::vector<std::vector<int>> ids;
    std::vector<std::shared_ptr<CancelFlag>> flags;
    std::vector<SequenceInput> inputs;  // without room for the outputs

    BatchInput(const py::sequence& batch, const PerSequence<std::string>& output,
               const PerSequence<std::shared_ptr<CancelFlag>>& cancel, const PerSequence<std::size_t>& tentative) {
        for (const py::handle item : batch) add(item);
        const std::vector<std::string> outputs = for_each_sequence(output, ids.size(), "output");
        flags = for_each_sequence(cancel, ids.size(), "cancel");
        const std::vector<std::size_t> n_tentative = for_each_sequence(tentative, ids.size(), "tentative");
        for (std::size_t i = 0; i < ids.size(); ++i) {
            inputs.push_back({sessions[i].get(), ids[i], output_named(outputs[i]), nullptr,
                              flags[i] == nullptr ? nullptr : &flags[i]->flag(), n_tentative[i]});
        }
    }

private:
    void add(const py::handle item) {
        std::shared_ptr<Session> session;
        Ids tokens;
        try {
            std::tie(session, tokens) = item.cast<std::pair<std::shared_ptr<Session>, Ids>>();
        } catch (const py::cast_error&) {
            session = nullptr;
        }
        if (session == nullptr) throw py::type_error("batch must hold pairs of a session and an array of int32");
        ids.push_back(copied(tokens));
        sessions.push_back(std::move(session));
    }
};

// Rows of outputs of equal width, a sequence's after another's.
class OutputRows {
public:
    OutputRows(py::ssize_t rows, py::ssize_t width) : width_(width), values_({rows, width}) {}

    float* take(std::size_t rows) {
        float* const first = values_.mutable_data() + used_ * width_;
        used_ += static_cast<py::ssize_t>(rows);
        return first;
    }
    // The array of what take() returned, (rows, width).
    py::object array(const float* first, std::size_t rows) const {
        const py::ssize_t row = (first - values_.data()) / width_;
        return values_[py::slice(row, row + static_cast<py::ssize_t>(rows), 1)];
    }

private:
    py::ssize_t width_;
    py::ssize_t used_ = 0;
    Floats values_;
};

// The kind of output whose rows are as wide.
Output holder(Output output) { return output == Output::hidden ? output : Output::all; }

py::list forward(const Engine& engine, const py::sequence& batch, const PerSequence<std::string>& output,
                 const PerSequence<std::shared_ptr<CancelFlag>>& cancel, const PerSequence<std::size_t>& tentative) {
    BatchInput in(batch, output, cancel, tentative);
    engine.check(in.inputs);  // before memory is allocated by their size
    const auto rows_of_kind = [&](Output kind) {
        std::size_t n = 0;
        for (const SequenceInput& s : in.inputs) {
            if (holder(s.output) == kind) n += output_rows(s);
        }
        return OutputRows(static_cast<py::ssize_t>(n), engine.output_width(kind));
    };
    OutputRows logits = rows_of_kind(Output::all), hidden = rows_of_kind(Output::hidden);
    const auto rows_of = [&](Output output) -> OutputRows& {
        return holder(output) == Output::hidden ? hidden : logits;
    };
    for (SequenceInput& s : in.inputs) s.out = rows_of(s.output).take(output_rows(s));
    std::vector<bool> cancelled;
    {
        GilReleased released;
        SignalCheck check(released);
        cancelled = engine.forward(in.inputs, std::ref(check));
    }
    py::list out;
    for (std::size_t i = 0; i < in.inputs.size(); ++i) {
        const SequenceInput& s = in.inputs[i];
        const py::object rows = rows_of(s.output).array(s.out, output_rows(s));
        if (cancelled[i]) {
            out.append(py::none());
        } else {
            out.append(s.output == Output::last ? py::object(rows[py::int_(0)]) : rows);
        }
    }
    return out;
}

// A session, its new tokens, which of them is the first whose next is scored, and tokens that may follow the last.
using Scored = std::tuple<std::shared_ptr<Session>, Ids, std::size_t, Ids>;

py::list scores(const Engine& engine, const std::vector<Scored>& batch) {
    std::deque<std::vector<int>> ids;  // copies, as in BatchInput
    std::deque<std::vector<float>> out;
    std::vector<SequenceInput> inputs;
    for (const auto& [session, tokens, first, next] : batch) {
        if (session == nullptr) throw py::type_error("a session must not be None");
        SequenceInput& s = inputs.emplace_back();
        s.session = session.get();
        s.tokens = ids.emplace_back(copied(tokens));
        s.output = Output::score;
        s.first = first;
        s.next = ids.emplace_back(copied(next));
    }
    engine.check(inputs);  // before memory is allocated by their size
    for (SequenceInput& s : inputs) s.out = out.emplace_back(output_rows(s) * kScoreWidth).data();
    {
        GilReleased released;
        SignalCheck check(released);
        engine.forward(inputs, std::ref(check));
    }
    py::list results;
    for (const std::vector<float>& of_one : out) {
        const auto n = static_cast<py::ssize_t>(of_one.size() / kScoreWidth);
        Floats logprobs(n);
        py::array_t<bool> likeliest(n);
        for (py::ssize_t i = 0; i < n; ++i) {
            const float* const at = of_one.data() + i * kScoreWidth;
            logprobs.mutable_at(i) = at[0];
            likeliest.mutable_at(i) = at[1] != 0.0f;
        }
        results.append(py::make_tuple(std::move(logprobs), std::move(likeliest)));
    }
    return results;
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

Page new_page(const Engine& engine, std::size_t page_class, const py::array& contents) {
    const auto* const from = elements<const std::uint8_t>("contents", contents, {contents.size()});
    const std::span bytes(from, static_cast<std::size_t>(contents.size()));
    const GilReleased released;
    return {engine.page(page_class, std::as_bytes(bytes))};
}

std::shared_ptr<Session> restore(const Engine& engine, int length, const std::vector<std::vector<const Page*>>& pages) {
    std::vector<PageList> lists;
    for (const auto& of_class : pages) {
        PageList& list = lists.emplace_back();
        for (const Page* const page : of_class) list.push_back(page == nullptr ? nullptr : page->memory);
    }
    return engine.session(length, lists);
}

}  // namespace

void bind_engine(py::module_& m) {
    py::class_<Engine, std::shared_ptr<Engine>> of_engine(m, "Engine");
    of_engine.def_property_readonly("isa", [](const Engine& e) { return e.kernels().name; })
        .def_property_readonly("threads", [](const Engine& e) { return e.threads().count(); })
        .def_property_readonly("threads_backend", [](const Engine& e) { return backend_name(e.threads().regions()); })
        .def_property_readonly("weight_bytes", &Engine::weight_bytes)
        .def_property_readonly("kv_bytes_per_token", &Engine::kv_bytes_per_token)
        .def(
            "cache_bytes",
            [](const Engine& e, int length) {
                if (length < 0 || length > e.config().n_ctx) {
                    throw InvalidArgument("length must be from 0 to " + std::to_string(e.config().n_ctx) + ", not " +
                                          std::to_string(length));
                }
                return e.cache_bytes(length);
            },
            py::arg("length"))
        .def_static(
            "held_bytes",
            [](const std::vector<std::shared_ptr<Session>>& sessions) { return Engine::held_bytes(sessions); },
            py::arg("sessions"))
        .def("tensors", &tensors)
        .def_property_readonly("kv", [](const Engine& e) { return e.cache_format().name; })
        .def("fingerprint", &Engine::fingerprint, py::call_guard<GilReleased>())
        .def("session", py::overload_cast<>(&Engine::session, py::const_))
        .def("page", &new_page, py::arg("page_class"), py::arg("contents"))
        .def("restore", &restore, py::arg("length"), py::arg("pages"))
        .def("forward", &forward, py::arg("batch"), py::kw_only(), py::arg("output") = "last",
             py::arg("cancel") = std::shared_ptr<CancelFlag>(), py::arg("tentative") = std::size_t{0})
        .def("score", &scores, py::arg("batch"))
        .def("log_softmax", &log_softmax, py::arg("logits"));
    bind_trace(of_engine);
}

}  // namespace pygpt
