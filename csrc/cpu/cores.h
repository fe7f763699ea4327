// How many threads this process should use.
#pragma once

#include <string>

namespace pygpt {

struct UsableCores {
    int count = 1;       // at least 1
    std::string reason;  // what limits it, for `pygpt info`
};

// Physical cores among the CPUs of this process's affinity mask, no more than its cgroup's CPU quota allows. `root`:
// the folder that holds /proc and /sys, for tests.
UsableCores usable_cores(const std::string& root = "");

}  // namespace pygpt
