// Avx2 with the int8 products of AVX-VNNI.
#pragma once

#include "simd/avx2.h"

namespace pygpt {
namespace {

struct AvxVnni : Avx2 {
    static constexpr const char* kName = "avxvnni";
    static constexpr int kPairRows = 0;
    static constexpr int kInt8Rows = 6;

    // vpdpbusd wants its first factor unsigned: w + 128. The start takes 128 * sum(x) off again.
    static I32 dot_start(std::int32_t sum) {
        const __m256i v = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(_mm256_set1_epi32(sum), 7));
        return {v, v};
    }
    static Weights load_weights(const std::int8_t* p) {
        const __m256i offset = _mm256_set1_epi8(static_cast<char>(0x80));
        const Weights w = Avx2::load_weights(p);
        return {_mm256_xor_si256(w.lo, offset), _mm256_xor_si256(w.hi, offset)};
    }
    // As instructions, since around the intrinsic GCC 12 copies every sum, and spills what it copies.
    static I32 dot(I32 sum, Weights w, Inputs x) {
        __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum.lo) : "x"(w.lo), "x"(x.v));
        __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum.hi) : "x"(w.hi), "x"(x.v));
        return sum;
    }
};

}  // namespace
}  // namespace pygpt
