#include "kernels/select.h"

#include <cstdlib>

#include "base/error.h"
#include "cpu/features.h"

namespace pygpt {

extern const Kernels kScalarKernels;
#if defined(PYGPT_X86)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
void linear_int8_avxvnni(const LinearArgs& args);
void linear_int8_avx512vnni(const LinearArgs& args);
void linear_int8_amx(const LinearArgs& args);
void attention_int8_avxvnni(const AttentionArgs& args);
void attention_int8_avx512vnni(const AttentionArgs& args);
void attention_int8_amx(const AttentionArgs& args);
#elif defined(PYGPT_ARM64)
extern const Kernels kNeonKernels;
void linear_int8_dotprod(const LinearArgs& args);
void linear_int8_i8mm(const LinearArgs& args);
void attention_int8_dotprod(const AttentionArgs& args);
#endif

namespace {

struct Candidate {
    const Kernels* kernels;
    bool runnable;
    std::string (*request)() = nullptr;  // asks the system for what it needs; empty: granted
};

#if defined(PYGPT_X86) || defined(PYGPT_ARM64)
Kernels with_int8_products(const char* name, const Kernels& base, void (*linear)(const LinearArgs&),
                           void (*attention)(const AttentionArgs&)) {
    Kernels k = base;
    k.name = name;
    for (LinearFormat& f : k.formats) {
        if (f.dtype == DType::i8) f.multiply = linear;
    }
    for (CacheFormat& f : k.caches) {
        if (f.dtype == DType::i8) f.attention = attention;
    }
    return k;
}
#endif

// Every table of this build, best first.
std::vector<Candidate> candidates() {
    std::vector<Candidate> all;
#if defined(PYGPT_X86)
    static const Kernels avxvnni =
        with_int8_products("avxvnni", kAvx2Kernels, linear_int8_avxvnni, attention_int8_avxvnni);
    static const Kernels avx512vnni =
        with_int8_products("avx512vnni", kAvx512Kernels, linear_int8_avx512vnni, attention_int8_avx512vnni);
    static const Kernels amx = with_int8_products("amx", kAvx512Kernels, linear_int8_amx, attention_int8_amx);
    const CpuFeatures cpu = detect_cpu();
    const bool avx2 = cpu.avx2 && cpu.fma && cpu.f16c;
    const bool avx512 = avx2 && cpu.avx512f && cpu.avx512bw && cpu.avx512vl && cpu.avx512dq;
    all.push_back({&amx, avx512 && cpu.avx512_vnni && cpu.amx_int8, request_amx});
    all.push_back({&avx512vnni, avx512 && cpu.avx512_vnni});
    all.push_back({&kAvx512Kernels, avx512});
    all.push_back({&avxvnni, avx2 && cpu.avx_vnni});
    all.push_back({&kAvx2Kernels, avx2});
#elif defined(PYGPT_ARM64)
    static const Kernels dotprod =
        with_int8_products("dotprod", kNeonKernels, linear_int8_dotprod, attention_int8_dotprod);
    static const Kernels i8mm = with_int8_products("i8mm", kNeonKernels, linear_int8_i8mm, attention_int8_dotprod);
    const CpuFeatures cpu = detect_cpu();
    all.push_back({&i8mm, cpu.dotprod && cpu.i8mm});
    all.push_back({&dotprod, cpu.dotprod});
    all.push_back({&kNeonKernels, true});
#endif
    all.push_back({&kScalarKernels, true});
    return all;
}

// Why a candidate cannot be used; empty: it can.
std::string obstacle(const Candidate& c) {
    if (!c.runnable) return "needs features that this machine lacks";
    return c.request == nullptr ? "" : c.request();
}

}  // namespace

std::vector<const Kernels*> runnable_kernels() {
    std::vector<const Kernels*> out;
    for (const Candidate& c : candidates()) {
        if (obstacle(c).empty()) out.push_back(c.kernels);
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
    std::string why = "is not an instruction set of this build";
    for (const Candidate& c : candidates()) {
        if (wanted != c.kernels->name) continue;  // before the system is asked for what another one needs
        why = obstacle(c);
        if (why.empty()) return *c.kernels;
    }
    std::string usable;
    for (const Kernels* k : runnable_kernels()) usable += (usable.empty() ? "" : ", ") + std::string(k->name);
    throw InvalidArgument(source + "='" + wanted + "': " + why + "; usable here: " + usable +
                          " (without a name the best of them is taken)");
}

}  // namespace pygpt
