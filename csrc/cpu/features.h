// What the CPU can do and the operating system lets us use.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace pygpt {

struct CpuFeatures {
    bool avx2 = false;
    bool fma = false;
    bool f16c = false;
    bool avx512f = false;
    bool avx512bw = false;
    bool avx512vl = false;
    bool avx512dq = false;

    // (name, present) in the order above, for `pygpt info`.
    std::vector<std::pair<std::string, bool>> list() const;
};

// Read anew from cpuid and xgetbv at each call; all false off x86-64.
CpuFeatures detect_cpu();

}  // namespace pygpt
