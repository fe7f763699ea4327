// NumPy arrays as the training primitives take them: C-contiguous, of one type, used in place.
#pragma once

#include <initializer_list>
#include <limits>
#include <string>
#include <type_traits>

#include "base/error.h"
#include "bindings/module.h"

namespace pygpt {

// One size of the shape: a number that is asked for, or one that the first array to have it decides.
class Size {
public:
    Size(py::ssize_t wanted) : wanted_(wanted), found_(nullptr) {}
    Size(int* found) : wanted_(-1), found_(found) {}

    bool take(py::ssize_t n) const {
        if (n > std::numeric_limits<int>::max()) return false;
        if (found_ != nullptr) *found_ = static_cast<int>(n);
        return found_ != nullptr || n == wanted_;
    }
    std::string text() const { return found_ != nullptr ? "n" : std::to_string(wanted_); }

private:
    py::ssize_t wanted_;
    int* found_;
};

[[noreturn]] inline void fail_array(const char* name, const py::array& a, const py::dtype& dtype, bool writeable,
                                    std::initializer_list<Size> shape) {
    const auto text_of = [](const py::handle& o) { return py::str(o).cast<std::string>(); };
    std::string text = std::string(name) + " must be a C-contiguous" + (writeable ? ", writeable" : "") + " array of " +
                       text_of(dtype) + " of shape (";
    for (const Size& size : shape) text += size.text() + ", ";
    throw InvalidArgument(text + "), not of " + text_of(a.dtype()) + " " + text_of(a.attr("shape")));
}

// The elements of `a`, of type T (const where they are only read). ValueError where it is not as described.
template <class T>
T* elements(const char* name, const py::array& a, std::initializer_list<Size> shape) {
    const auto dtype = py::dtype::of<std::remove_const_t<T>>();
    bool fits = a.ndim() == static_cast<py::ssize_t>(shape.size()) && (a.flags() & py::array::c_style) != 0 &&
                a.dtype().equal(dtype);
    if constexpr (!std::is_const_v<T>) fits = fits && a.writeable();
    py::ssize_t axis = 0;
    for (const Size& size : shape) fits = fits && size.take(a.shape(axis++));
    if (!fits) fail_array(name, a, dtype, !std::is_const_v<T>, shape);
    return static_cast<T*>(const_cast<void*>(a.data()));
}

}  // namespace pygpt
