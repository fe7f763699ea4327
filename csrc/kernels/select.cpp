#include "kernels/select.h"

#include <cstdlib>

#include "base/error.h"
#include "cpu/features.h"

namespace pygpt {

extern const Kernels kScalarKernels;
#if defined(PYGPT_X86)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

namespace {

struct Candidate {
    const Kernels* kernels;
    bool runnable;
};

// Every table of this build, best first.
std::vector<Candidate> candidates() {
    std::vector<Candidate> all;
#if defined(PYGPT_X86)
    const CpuFeatures cpu = detect_cpu();
    const bool avx2 = cpu.avx2 && cpu.fma && cpu.f16c;
    all.push_back({&kAvx512Kernels, avx2 && cpu.avx512f && cpu.avx512bw && cpu.avx512vl && cpu.avx512dq});
    all.push_back({&kAvx2Kernels, avx2});
#endif
    all.push_back({&kScalarKernels, true});
    return all;
}

}  // namespace

std::vector<const Kernels*> runnable_kernels() {
    std::vector<const Kernels*> out;
    for (const Candidate& c : candidates()) {
        if (c.runnable) out.push_back(c.kernels);
    }
    return out;
}

const Kernels& select_kernels(const std::string& name) {
    std::string wanted = name, source = "isa";
    if (wanted.empty()) {
        const char* env = std::getenv("PYGPT_ISA");
        if (env == nullptr || *env == '\0') return *runnable_kernels().front();
        wanted = env;
        source = "PYGPT_ISA";
    }
    std::string here;
    bool known = false;
    for (const Candidate& c : candidates()) {
        if (wanted == c.kernels->name) {
            if (c.runnable) return *c.kernels;
            known = true;
        }
        if (c.runnable) here += (here.empty() ? "" : ", ") + std::string(c.kernels->name);
    }
    throw InvalidArgument(
        source + "='" + wanted + "' " +
        (known ? "needs features that this machine lacks" : "is not an instruction set of this build") +
        "; usable here: " + here);
}

}  // namespace pygpt
