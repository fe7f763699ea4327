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
    bool avx_vnni = false;
    bool avx512_vnni = false;
    bool avx512_bf16 = false;
    bool amx_bf16 = false;
    bool amx_int8 = false;  // the CPU's and the system's; whether this process may use it: request_amx()

    bool neon = false;
    bool dotprod = false;
    bool i8mm = false;

    // (name, present) in the order above, those of this processor's kind, for `pygpt info`.
    std::vector<std::pair<std::string, bool>> list() const;
};

// Read anew at each call: on x86-64 from cpuid and xgetbv, on 64-bit Arm from what the system says; elsewhere all
// false.
CpuFeatures detect_cpu();

// Asks the kernel to let this process use AMX's tiles, which it must know before the first of their instructions, as a
// thread's state then takes 8 KB more. Empty if it does, else the reason why not.
std::string request_amx();

}  // namespace pygpt
