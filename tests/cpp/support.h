// What the tests share: numbers from a seed, comparison by bits, memory that notices stray writes.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <random>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "base/dtype.h"
#include "kernels/select.h"
#if defined(PYGPT_OPENMP)
#include "threads/openmp.h"
#endif
#include "threads/parallel.h"

namespace pygpt::test {

// Whether a sanitizer watches the tests or an emulator runs them: what takes a second elsewhere takes minutes there.
#if defined(PYGPT_SLOW)
inline constexpr bool kSlow = true;
#else
inline constexpr bool kSlow = false;
#endif

// Numbers that a seed repeats on every machine.
class Random {
public:
    explicit Random(unsigned seed) : engine_(seed) {}

    int below(int n) { return static_cast<int>(engine_() % static_cast<unsigned>(n)); }
    float uniform(float low, float high) {
        return low + (high - low) * static_cast<float>(static_cast<double>(engine_()) * 0x1p-32);
    }
    std::vector<float> floats(std::ptrdiff_t n, float low = -1.0f, float high = 1.0f) {
        std::vector<float> out(static_cast<std::size_t>(n));
        for (float& x : out) x = uniform(low, high);
        return out;
    }

private:
    std::mt19937 engine_;
};

// The same bits, where all NaNs count as one.
inline bool same(float a, float b) { return float_bits(a) == float_bits(b) || (std::isnan(a) && std::isnan(b)); }

inline testing::AssertionResult same_bits(std::span<const float> found, std::span<const float> expected) {
    if (found.size() != expected.size()) return testing::AssertionFailure() << "sizes differ";
    for (std::size_t i = 0; i < found.size(); ++i) {
        if (same(found[i], expected[i])) continue;
        return testing::AssertionFailure() << std::hexfloat << "element " << i << " of " << found.size() << ": found "
                                           << found[i] << ", expected " << expected[i];
    }
    return testing::AssertionSuccess();
}

// A (rows, n) array with row stride ld. Whatever lies between, before and after the rows holds a value that no test
// computes; intact() says whether it still does.
class Guarded {
public:
    Guarded(int rows, int n, int ld) : rows_(rows), n_(n), ld_(ld), data_(size(), kGuard) {}

    float* row(int i) { return data_.data() + kMargin + static_cast<std::ptrdiff_t>(i) * ld_; }
    std::ptrdiff_t ld() const { return ld_; }
    std::span<const float> all() const { return data_; }

    bool intact() const { return intact(0, n_); }
    // Whether everything outside the columns [from, to) of the rows is as it was.
    bool intact(int from, int to) const {
        for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(data_.size()); ++i) {
            const std::ptrdiff_t at = i - kMargin, column = at >= 0 ? at % ld_ : -1;
            const bool inside = at >= 0 && at / ld_ < rows_ && from <= column && column < to;
            if (!inside && !same(data_.data()[i], kGuard)) return false;
        }
        return true;
    }

private:
    static constexpr int kMargin = 32;
    static constexpr float kGuard = -0x1.23456p+77f;

    std::size_t size() const { return static_cast<std::size_t>(2 * kMargin + rows_ * ld_); }

    int rows_, n_, ld_;
    std::vector<float> data_;
};

// The tables this machine can run, best first; asked once, as a virtual machine is slow to say.
inline const std::vector<const Kernels*>& tables() {
    static const std::vector<const Kernels*> all = runnable_kernels();
    return all;
}
inline const Kernels& best_kernels() { return *tables().front(); }
inline const Kernels& scalar_kernels() { return *tables().back(); }

constexpr std::array kActivations = {Activation::gelu, Activation::gelu_tanh, Activation::silu, Activation::relu,
                                     Activation::swiglu_clamped};

#if defined(PYGPT_EMULATED_AMX)
}  // namespace pygpt::test
namespace pygpt {
void linear_int8_emulated_amx(const LinearArgs& args);
void attention_int8_emulated_amx(const AttentionArgs& args);
}  // namespace pygpt
namespace pygpt::test {

// The table of AMX over emulated tiles, where its vectors run; else null.
inline const Kernels* emulated_amx() {
    static const auto vectors = std::find_if(tables().begin(), tables().end(), [](const Kernels* kernels) {
        return std::string_view(kernels->name) == "avx512vnni";
    });
    if (vectors == tables().end()) return nullptr;
    static const Kernels amx = [] {
        Kernels k = **vectors;
        k.name = "amx, emulated";
        for (LinearFormat& f : k.formats) {
            if (f.dtype == DType::i8) f.multiply = linear_int8_emulated_amx;
        }
        for (CacheFormat& f : k.caches) {
            if (f.dtype == DType::i8) f.attention = attention_int8_emulated_amx;
        }
        return k;
    }();
    return &amx;
}
#else
inline const Kernels* emulated_amx() { return nullptr; }
#endif

// f(kernels) for each of them, and for those of AMX where tiles have to be emulated.
template <class F>
void on_each_isa(F f) {
    std::vector<const Kernels*> all = tables();
    if (emulated_amx() != nullptr) all.push_back(emulated_amx());
    for (const Kernels* kernels : all) {
        const testing::ScopedTrace trace(__FILE__, __LINE__, kernels->name);
        f(*kernels);
    }
}

// The backends of threads of this build, null being own ones. The thread sanitizer cannot see what OpenMP's runtime,
// which is not built with it, puts in order.
inline std::vector<const Regions*> backends() {
#if defined(PYGPT_OPENMP) && !defined(__SANITIZE_THREAD__)
    return {nullptr, &kOpenMpRegions};
#else
    return {nullptr};
#endif
}

// f(team) with that many threads.
template <class F>
void with_team(int count, F f) {
    Threads(count).run([&](Team& team) { f(team); });
}

// Waits, for 20 seconds at most, until the other threads have made it true.
template <class There>
void wait_until(There there) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!there() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
}

// f(team) with that many threads of each backend.
template <class F>
void on_each_backend(int count, F f) {
    for (const Regions* regions : backends()) {
        const testing::ScopedTrace trace(__FILE__, __LINE__, regions == nullptr ? "own" : "OpenMP");
        Threads(count, regions).run([&](Team& team) { f(team); });
    }
}

// |found - exact| in units of the last place that a float32 has at `exact`.
inline double ulps(float found, long double exact) {
    int exponent = 0;
    std::frexp(exact, &exponent);
    const long double distance = std::abs(static_cast<long double>(found) - exact);
    return static_cast<double>(std::ldexp(distance, -std::max(exponent - 24, -149)));
}

constexpr double kEps = 0x1p-24;  // the largest relative error of one float32 rounding

}  // namespace pygpt::test
