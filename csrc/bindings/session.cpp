// Session and Page.
#include <memory>
#include <vector>

#include <pybind11/stl.h>

#include "bindings/module.h"
#include "bindings/page.h"
#include "model/engine.h"

namespace pygpt {

namespace {

// A read-only view, which keeps the page alive.
py::array bytes_of(const py::object& page) {
    const Buffer& memory = *page.cast<const Page&>().memory;
    py::array array(py::dtype("uint8"), {memory.size()}, memory.data(), page);
    array.attr("flags").attr("writeable") = false;
    return array;
}

std::vector<std::vector<std::optional<Page>>> pages(const Session& session) {
    std::vector<std::vector<std::optional<Page>>> out;
    for (PageList& of_class : session.pages()) {
        auto& list = out.emplace_back();
        for (std::shared_ptr<Buffer>& page : of_class) {
            list.emplace_back(std::nullopt);
            if (page != nullptr) list.back() = Page{std::move(page)};
        }
    }
    return out;
}

std::uintptr_t address_of(const std::shared_ptr<Buffer>& page) { return reinterpret_cast<std::uintptr_t>(page.get()); }

py::dict page_bytes(const Session& session) {
    py::dict out;
    for (const PageList& of_class : session.pages()) {
        for (const auto& page : of_class) {
            if (page != nullptr) out[py::int_(address_of(page))] = page->size();
        }
    }
    return out;
}

}  // namespace

void bind_session(py::module_& m) {
    py::class_<Page>(m, "Page")
        .def_property_readonly("address", [](const Page& p) { return address_of(p.memory); })
        .def_property_readonly("nbytes", [](const Page& p) { return p.memory->size(); })
        .def("array", &bytes_of);
    py::class_<Session, std::shared_ptr<Session>>(m, "Session")
        .def_property_readonly("length", &Session::length)
        .def("fork", &Session::fork)
        .def("truncate", &Session::truncate, py::arg("length"))
        .def("keep", &Session::keep, py::arg("n"))
        .def("pages", &pages)
        .def("page_bytes", &page_bytes)
        .def("clear_rest", &Session::clear_rest);
}

}  // namespace pygpt
