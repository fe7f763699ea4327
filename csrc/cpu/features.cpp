#include "cpu/features.h"

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace pygpt {

std::vector<std::pair<std::string, bool>> CpuFeatures::list() const {
#if defined(__aarch64__)
    return {{"neon", neon}, {"dotprod", dotprod}, {"i8mm", i8mm}};
#else
    return {{"avx2", avx2},
            {"fma", fma},
            {"f16c", f16c},
            {"avx512f", avx512f},
            {"avx512bw", avx512bw},
            {"avx512vl", avx512vl},
            {"avx512dq", avx512dq},
            {"avx_vnni", avx_vnni},
            {"avx512_vnni", avx512_vnni},
            {"avx512_bf16", avx512_bf16},
            {"amx_bf16", amx_bf16},
            {"amx_int8", amx_int8}};
#endif
}

#if defined(__x86_64__)

namespace {

struct Registers {
    std::uint32_t eax, ebx, ecx, edx;
};

Registers cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
    Registers r{};
    if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx)) return {};
    return r;
}

// The register state that the operating system saves (XCR0). Only valid where cpuid reports OSXSAVE.
std::uint64_t saved_state() {
    std::uint32_t eax, edx;
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return (static_cast<std::uint64_t>(edx) << 32) | eax;
}

}  // namespace

CpuFeatures detect_cpu() {
    constexpr std::uint64_t kYmm = 0x6, kZmm = 0xe6, kTiles = 0x60000;
    const auto bit = [](std::uint32_t word, int i) { return ((word >> i) & 1u) != 0; };
    const Registers leaf1 = cpuid(1, 0);
    if (!bit(leaf1.ecx, 27)) return {};  // OSXSAVE
    const std::uint64_t state = saved_state();
    const Registers leaf7 = cpuid(7, 0);
    const bool ymm = (state & kYmm) == kYmm;
    const bool zmm = (state & kZmm) == kZmm;
    CpuFeatures f;
    f.fma = ymm && bit(leaf1.ecx, 12);
    f.f16c = ymm && bit(leaf1.ecx, 29);
    f.avx2 = ymm && bit(leaf7.ebx, 5);
    f.avx512f = zmm && bit(leaf7.ebx, 16);
    f.avx512dq = zmm && bit(leaf7.ebx, 17);
    f.avx512bw = zmm && bit(leaf7.ebx, 30);
    f.avx512vl = zmm && bit(leaf7.ebx, 31);
    f.avx512_vnni = zmm && bit(leaf7.ecx, 11);
    f.avx_vnni = ymm && leaf7.eax >= 1 && bit(cpuid(7, 1).eax, 4);
    f.avx512_bf16 = zmm && leaf7.eax >= 1 && bit(cpuid(7, 1).eax, 5);
    f.amx_bf16 = (state & kTiles) == kTiles && bit(leaf7.edx, 24) && bit(leaf7.edx, 22);
    f.amx_int8 = (state & kTiles) == kTiles && bit(leaf7.edx, 24) && bit(leaf7.edx, 25);
    return f;
}

std::string request_amx() {
#if defined(__linux__)
    constexpr int kRequestPermission = 0x1023, kTileData = 18;  // asm/prctl.h, since Linux 5.16
    if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0) return {};
    return std::string("the kernel refuses AMX to this process (") + std::strerror(errno) + ")";
#else
    return "AMX is only used on Linux";
#endif
}

#else

#if defined(__aarch64__) && defined(__APPLE__)

namespace {

bool has(const char* name) {
    int value = 0;
    std::size_t size = sizeof(value);
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}

}  // namespace

#endif

CpuFeatures detect_cpu() {
    CpuFeatures f;
#if defined(__aarch64__)
    f.neon = true;  // part of the architecture
#if defined(__linux__)
    f.dotprod = (getauxval(AT_HWCAP) >> 20 & 1) != 0;  // HWCAP_ASIMDDP
    f.i8mm = (getauxval(AT_HWCAP2) >> 13 & 1) != 0;    // HWCAP2_I8MM
#elif defined(__APPLE__)
    f.dotprod = has("hw.optional.arm.FEAT_DotProd");
    f.i8mm = has("hw.optional.arm.FEAT_I8MM");
#endif
#endif
    return f;
}

std::string request_amx() { return "this is not an x86-64 machine"; }

#endif

}  // namespace pygpt
