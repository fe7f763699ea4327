// What the cases of kernels.cpp share: GPT-2's sizes, numbers, the comparison with what they should give.
#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace {

using namespace pygpt;

constexpr int kHidden = 768, kHeads = 12, kHeadDim = 64, kVocabulary = 50257;

// n values between -1 and 1, the same at every run; a period that no kernel's sizes share keeps long ones cheap.
std::vector<float> noise(std::size_t n, std::uint32_t seed) {
    constexpr std::size_t kPeriod = 65521;
    std::vector<float> values(n);
    std::uint32_t state = seed;
    for (std::size_t i = 0; i < n; ++i) {
        state = state * 1664525u + 1013904223u;
        values[i] = i < kPeriod ? static_cast<float>(state >> 8) * 0x1p-23f - 1.0f : values[i - kPeriod];
    }
    return values;
}

void expect(double got, double want, double tolerance, const std::string& what) {
    if (std::abs(got - want) <= tolerance) return;
    throw std::runtime_error(what + " is wrong: " + std::to_string(got) + " instead of " + std::to_string(want));
}

const char* name_of(DType t) {
    return t == DType::f32 ? "float32" : t == DType::f16 ? "float16" : t == DType::i8 ? "int8" : "bfloat16";
}

}  // namespace
