// Rows of float32, and work that is split by rows.
#pragma once

#include <algorithm>
#include <cstddef>

#include "base/lanes.h"
#include "threads/parallel.h"

namespace pygpt {

// Rows of float32 whose stride is not a multiple of a large power of two, so that the rows of a tile do not compete for
// the same sets of the cache.
struct Activations {
    float* data = nullptr;
    std::ptrdiff_t stride = 0;

    float* row(std::ptrdiff_t i) const { return data + i * stride; }
    Activations from(std::ptrdiff_t first) const { return {row(first), stride}; }
};

// Rows a task takes, where every row costs little: few enough that all threads have some.
inline int rows_per_task(const Team& team, int rows) { return std::clamp(rows / (2 * team.size()), 1, 16); }

// body(row) for each row, on several threads if there are several.
template <class F>
void for_rows(Team& team, int rows, F body) {
    const int step = rows_per_task(team, rows);
    team.parallel_for(ceil_div(rows, step), [&](int task, int) {
        for (int row = task * step; row < std::min(rows, (task + 1) * step); ++row) body(row);
    });
}

}  // namespace pygpt
