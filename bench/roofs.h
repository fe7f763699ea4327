// The machine's roofs, and a meter that times a kernel between two measurements of them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "cpu/features.h"
#include "kernels/table.h"
#include "threads/parallel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define PYGPT_EACH_ISA __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define PYGPT_EACH_ISA
#endif

namespace {

using namespace pygpt;

constexpr std::size_t kModelBytes = std::size_t{496} << 20;  // GPT-2 124M in float32: far beyond any cache
constexpr double kSampleSeconds = 0.03;

// --- the roofs
// --------------------------------------------------------------------------------------------------------

using Line = float __attribute__((vector_size(64)));  // a cache line, whatever the registers' width

// Sums n floats as 8 streams, each fetched 2 KiB ahead: the fastest way to read that was found.
PYGPT_EACH_ISA float read_streams(const float* p, std::ptrdiff_t n) {
    constexpr std::ptrdiff_t kStreams = 8, kLine = 16, kAhead = 512;
    const std::ptrdiff_t length = n / kStreams / kLine * kLine;
    Line sums[kStreams] = {};
    for (std::ptrdiff_t i = 0; i < length; i += kLine) {
        for (std::ptrdiff_t s = 0; s < kStreams; ++s) {
            const float* at = p + s * length + i;
            __builtin_prefetch(at + kAhead);
            sums[s] += *reinterpret_cast<const Line*>(at);
        }
    }
    float total = 0.0f;
    for (const Line& sum : sums) {
        for (int i = 0; i < 16; ++i) total += sum[i];
    }
    return total;
}

constexpr int kFmaRounds = 1 << 18;

struct FmaResult {
    double flops;
    float sum;  // so that the work is not optimised away
};

#if defined(__x86_64__)
__attribute__((target("avx512f"))) FmaResult fma_avx512() {
    constexpr int kChains = 24;
    __m512 a[kChains];
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) a[i] = _mm512_set1_ps(static_cast<float>(i));
    const __m512 x = _mm512_set1_ps(0.9999f), y = _mm512_set1_ps(0.5f);
    for (int round = 0; round < kFmaRounds; ++round) {
#pragma GCC unroll 24
        for (int i = 0; i < kChains; ++i) a[i] = _mm512_fmadd_ps(a[i], x, y);
    }
    float sum = 0.0f;
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) sum += _mm512_cvtss_f32(a[i]);
    return {2.0 * 16 * kChains * kFmaRounds, sum};
}

__attribute__((target("avx2,fma"))) FmaResult fma_avx2() {
    constexpr int kChains = 12;
    __m256 a[kChains];
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) a[i] = _mm256_set1_ps(static_cast<float>(i));
    const __m256 x = _mm256_set1_ps(0.9999f), y = _mm256_set1_ps(0.5f);
    for (int round = 0; round < kFmaRounds; ++round) {
#pragma GCC unroll 12
        for (int i = 0; i < kChains; ++i) a[i] = _mm256_fmadd_ps(a[i], x, y);
    }
    float sum = 0.0f;
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) sum += _mm256_cvtss_f32(a[i]);
    return {2.0 * 8 * kChains * kFmaRounds, sum};
}
#endif

// Elsewhere: what the compiler makes of it, fused where the target has the instruction.
FmaResult fma_portable() {
    constexpr int kLanes = 64;
    float a[kLanes];
    std::iota(a, a + kLanes, 0.0f);
    for (int round = 0; round < kFmaRounds; ++round) {
        for (float& v : a) {
#if defined(__FP_FAST_FMAF)
            v = __builtin_fmaf(v, 0.9999f, 0.5f);
#else
            v = v * 0.9999f + 0.5f;
#endif
        }
    }
    return {2.0 * kLanes * kFmaRounds, std::accumulate(a, a + kLanes, 0.0f)};
}

FmaResult fma() {
#if defined(__x86_64__)
    static const CpuFeatures cpu = detect_cpu();
    if (cpu.avx512f) return fma_avx512();
    if (cpu.avx2 && cpu.fma) return fma_avx2();
#endif
    return fma_portable();
}

// Products of int8 as kernels can have them: 2 x 2 AMX tiles, each loaded from the first-level cache, or from registers
// VNNI, or without it products of 16 bits added in pairs, on AVX2 Winograd's. 0 operations elsewhere.
constexpr int kInt8Rounds = 1 << 15;

#if defined(__x86_64__)
__attribute__((target("amx-tile,amx-int8"))) FmaResult int8_amx() {
    struct alignas(64) {
        std::uint8_t palette = 1, start = 0, reserved[14] = {};
        std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
    alignas(64) std::int8_t tiles[8][4][1024];
    for (auto& four : tiles) {
        for (auto& tile : four) std::iota(std::begin(tile), std::end(tile), std::int8_t{0});
    }
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int round = 0; round < kInt8Rounds; ++round) {
        const auto& four = tiles[round % 8];
        _tile_loadd(4, four[0], 64);
        _tile_loadd(6, four[1], 64);
        _tile_dpbssd(0, 4, 6);
        _tile_loadd(7, four[2], 64);
        _tile_dpbssd(1, 4, 7);
        _tile_loadd(5, four[3], 64);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    alignas(64) std::int32_t sum[256];
    _tile_stored(0, sum, 64);
    _tile_release();
    return {2.0 * 4 * 16 * 16 * 64 * kInt8Rounds, static_cast<float>(sum[0])};
}

// `chains` independent sums, each given `instruction` (%0 the sum, %1 a register of its own, %2 an operand) again and
// again. Every loop over them is unrolled: only so are they registers.
#define PYGPT_INT8_ROOF(name, features, type, set1, chains, products, instruction)  \
    __attribute__((target(features))) FmaResult name() {                            \
        type a[chains], t;                                                          \
        _Pragma("GCC unroll 24") for (int i = 0; i < chains; ++i) a[i] = set1(i);   \
        const type x = set1(0x03030303);                                            \
        for (int round = 0; round < kInt8Rounds; ++round) {                         \
            _Pragma("GCC unroll 24") for (int i = 0; i < chains; ++i) {             \
                __asm__(instruction : "+v"(a[i]), "=&v"(t) : "v"(x));               \
            }                                                                       \
        }                                                                           \
        type sum = a[0];                                                            \
        _Pragma("GCC unroll 24") for (int i = 1; i < chains; ++i) sum ^= a[i];      \
        return {2.0 * products * chains * kInt8Rounds, static_cast<float>(sum[0])}; \
    }
PYGPT_INT8_ROOF(int8_vnni, "avx512f,avx512vnni", __m512i, _mm512_set1_epi32, 24, 64, "vpdpbusd %2, %2, %0")
PYGPT_INT8_ROOF(int8_vnni_256, "avx2,avxvnni", __m256i, _mm256_set1_epi32, 12, 32, "%{vex%} vpdpbusd %2, %2, %0")
PYGPT_INT8_ROOF(int8_pairs, "avx512f,avx512bw", __m512i, _mm512_set1_epi32, 24, 32,
                "vpmaddwd %2, %2, %1\n\tvpaddd %1, %0, %0")
PYGPT_INT8_ROOF(int8_winograd, "avx2", __m256i, _mm256_set1_epi32, 12, 32,
                "vpaddw %2, %2, %1\n\tvpaddw %1, %2, %1\n\tvpmaddwd %1, %1, %1\n\tvpaddd %1, %0, %0")
#undef PYGPT_INT8_ROOF
#endif

FmaResult int8_products(const std::string& isa) {
#if defined(__x86_64__)
    if (isa == "amx") return int8_amx();
    if (isa == "avx512vnni") return int8_vnni();
    if (isa == "avxvnni") return int8_vnni_256();
    if (isa == "avx512") return int8_pairs();
    if (isa == "avx2") return int8_winograd();
#endif
    return {0.0, 0.0f};
}

// --- measuring
// --------------------------------------------------------------------------------------------------------

double seconds_of(const std::function<void()>& f) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return (v[(v.size() - 1) / 2] + v[v.size() / 2]) / 2.0;
}

struct Case {
    std::string kernel, dtype, shape;
    double bytes, flops;  // of one run; read and written; flops are integer operations where dtype is int8
    std::function<void()> run;
    std::function<void()> restore = nullptr;  // called before each run and not timed
};

class Meter {
public:
    Meter(const Kernels& table, Team& threads, int samples, std::string only)
        : kernels(table), team(threads), samples_(samples), only_(std::move(only)), memory_(kModelBytes) {
        std::fill_n(memory_.as<float>(), kModelBytes / 4, 1.0f);  // untouched pages would all be the same one
    }

    bool wants(const std::string& kernel, const std::string& dtype, const std::string& shape = "") const {
        const std::string about = " " + kernel + " " + dtype + " " + shape + " ";
        std::istringstream words(only_);
        for (std::string word; words >> word;) {
            if (about.find(" " + word + " ") == std::string::npos) return false;
        }
        return true;
    }

    // Prints one line: the medians of the rates, of the roofs around them, and of each sample's share of these.
    void measure(const Case& c) {
        once(c);  // warms up
        const bool int8 = c.dtype == "int8";
        std::vector<double> bytes, flops, reads{read_roof(int8)}, fmas{compute_roof(int8)}, read_share, fma_share;
        for (int i = 0; i < samples_; ++i) {
            double seconds = 0.0;
            int runs = 0;
            for (; seconds < kSampleSeconds; ++runs) seconds += once(c);
            reads.push_back(read_roof(int8));
            fmas.push_back(compute_roof(int8));
            bytes.push_back(c.bytes * runs / seconds / 1e9);
            flops.push_back(c.flops * runs / seconds / 1e9);
            read_share.push_back(bytes.back() * 2.0 / (reads[reads.size() - 2] + reads.back()));
            const double roofs = fmas[fmas.size() - 2] + fmas.back();
            fma_share.push_back(roofs > 0.0 ? flops.back() * 2.0 / roofs : 0.0);
        }
        std::printf(
            "{\"kernel\": \"%s\", \"dtype\": \"%s\", \"shape\": \"%s\", \"gbytes_per_s\": %.2f, \"gflops\": %.2f, "
            "\"read_roof\": %.2f, \"fma_roof\": %.2f, \"read_share\": %.3f, \"fma_share\": %.3f}\n",
            c.kernel.c_str(), c.dtype.c_str(), c.shape.c_str(), median(bytes), median(flops), median(reads),
            median(fmas), median(read_share), median(fma_share));
        std::fflush(stdout);
    }

    const Kernels& kernels;
    Team& team;

private:
    static double once(const Case& c) {
        if (c.restore) c.restore();
        return seconds_of(c.run);
    }

    // Over as much memory as the model has weights in float32, or in int8.
    double read_roof(bool int8) {
        const int tasks = team.size() * 4;
        const auto part = static_cast<std::ptrdiff_t>(kModelBytes / (int8 ? 16 : 4)) / tasks;
        const double seconds = seconds_of([&] {
            team.parallel_for(tasks,
                              [&](int task, int) { keep(read_streams(memory_.as<float>() + task * part, part)); });
        });
        return static_cast<double>(part * 4) * tasks / seconds / 1e9;
    }

    double compute_roof(bool int8) {
        const int tasks = team.size() * 4;
        double flops = 0.0;
        const double seconds = seconds_of([&] {
            team.parallel_for(tasks, [&](int task, int) {
                const FmaResult result = int8 ? int8_products(kernels.name) : fma();
                keep(result.sum);
                if (task == 0) flops = result.flops;
            });
        });
        return flops * tasks / seconds / 1e9;
    }

    static void keep(float x) {
        volatile float sink = x;
        (void)sink;
    }

    const int samples_;
    const std::string only_;
    Buffer memory_;
};

}  // namespace
