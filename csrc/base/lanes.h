// Counting in units: lanes of a vector, panels of a matrix, parts of a task. Nothing here is negative.
#pragma once

#include <type_traits>

namespace pygpt {

// `static` as in base/dtype.h.

template <class T>
static constexpr T ceil_div(T n, std::type_identity_t<T> unit) {
    return n / unit + (n % unit != 0 ? 1 : 0);
}

template <class T>
static constexpr T round_up(T n, std::type_identity_t<T> unit) {
    return ceil_div(n, unit) * unit;
}

// Where part i of `parts` nearly equal ones of [0, n) begins: at a multiple of `unit`, or at the end.
static constexpr int part_begin(int i, int parts, int n, int unit = 1) {
    const int at = static_cast<int>(static_cast<long long>(ceil_div(n, unit)) * i / parts) * unit;
    return at < n ? at : n;
}

}  // namespace pygpt
