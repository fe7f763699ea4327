// The backends of a team of threads, by name: "own" threads, or those of "openmp" where this build has it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "threads/regions.h"

namespace pygpt {

std::vector<std::string> usable_backends();  // that which is used unless another one is asked for first

// What Threads takes: null for own threads. Without a name PYGPT_THREADS_BACKEND decides, or the best. InvalidArgument:
// unknown, or it cannot be used here.
const Regions* choose_backend(const std::optional<std::string>& name);

inline const char* backend_name(const Regions* regions) { return regions == nullptr ? "own" : "openmp"; }

}  // namespace pygpt
