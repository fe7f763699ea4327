#include "bindings/read_config.h"

#include <optional>
#include <type_traits>
#include <vector>

#include "bindings/choice.h"
#include "model/weights.h"

namespace pygpt {

namespace {

// One value of a field; what holds several is read value by value.
struct Reader {
    template <class T>
    static void read(const char* name, const py::object& from, std::optional<T>& to) {
        if (!from.is_none()) read(name, from, to.emplace());
    }

    template <class T>
    static void read(const char* name, const py::object& from, std::vector<T>& to) {
        for (const py::handle item : from) read(name, py::reinterpret_borrow<py::object>(item), to.emplace_back());
    }

    template <class T>
    static void read(const char* name, const py::object& from, T& to) {
        if constexpr (std::is_enum_v<T>) {
            to = choose<T>(name, from.cast<std::string>());
        } else if constexpr (std::is_arithmetic_v<T>) {
            to = from.cast<T>();
        } else {
            visit_fields(to, [&](const char* field, auto& value) {
                py::object given = from.attr(field);
                // What Python derives from its own fields is a method there.
                if (PyCallable_Check(given.ptr()) != 0) given = given();
                read(field, given, value);
            });
        }
    }
};

template <class T>
py::list field_names() {
    py::list names;
    T config;
    visit_fields(config, [&](const char* name, auto&) { names.append(name); });
    return names;
}

}  // namespace

ModelConfig read_config(const py::object& from) {
    ModelConfig config;
    Reader::read("config", from, config);
    check_sizes(config);
    return config;
}

void bind_config(py::module_& m) {
    m.def(
        "tensors",
        [](const py::object& config) {
            py::dict out;
            for (const TensorSpec& t : list_tensors(read_config(config))) {
                py::tuple shape = py::make_tuple(t.rows, t.cols);
                if (t.is_vector) shape = py::make_tuple(t.rows);
                out[py::str(t.name)] = py::make_tuple(shape, t.whole, t.to.first, t.to.step);
            }
            return out;
        },
        py::arg("config"));
    m.def("config_fields", [] {
        py::dict fields;
        fields["ModelConfig"] = field_names<ModelConfig>();
        fields["LayerConfig"] = field_names<LayerConfig>();
        fields["Experts"] = field_names<Experts>();
        fields["Rope"] = field_names<Rope>();
        return fields;
    });
}

}  // namespace pygpt
