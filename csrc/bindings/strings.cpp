// Arrays of strings in GGUF files: a vocabulary has some 100,000, which Python's own loop takes 0.1 s to cut apart.
#include <cstdint>
#include <cstring>
#include <string>

#include "base/error.h"
#include "bindings/module.h"

namespace pygpt {

void bind_strings(py::module_& m) {
    m.def(
        "split_strings",
        [](const py::buffer& data, std::size_t begin, std::size_t count) {
            const py::buffer_info info = data.request();
            if (info.ndim != 1 || info.strides[0] != info.itemsize) throw InvalidArgument("data must be contiguous");
            const auto* const bytes = static_cast<const char*>(info.ptr);
            const auto size = static_cast<std::size_t>(info.size * info.itemsize);
            if (begin > size || count > (size - begin) / sizeof(std::uint64_t)) {
                throw InvalidArgument("there are fewer bytes than " + std::to_string(count) + " strings have");
            }
            py::list out(count);
            std::size_t at = begin;
            for (std::size_t i = 0; i < count; ++i) {
                std::uint64_t length = 0;
                if (size - at < sizeof length) throw InvalidArgument("string " + std::to_string(i) + " is cut short");
                std::memcpy(&length, bytes + at, sizeof length);
                at += sizeof length;
                if (length > size - at) throw InvalidArgument("string " + std::to_string(i) + " is cut short");
                out[i] = py::bytes(bytes + at, length);
                at += length;
            }
            return py::make_tuple(std::move(out), at);
        },
        py::arg("data"), py::arg("begin"), py::arg("count"));
}

}  // namespace pygpt
