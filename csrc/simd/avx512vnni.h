// Avx512 with the int8 products of AVX-512 VNNI.
#pragma once

#include "simd/avx512.h"

namespace pygpt {
namespace {

struct Avx512Vnni : Avx512 {
    static constexpr const char* kName = "avx512vnni";
    static constexpr int kInt8Registers = 32;
    static constexpr int kPairRows = 0;
    static constexpr int kInt8Rows = 9;

    struct I32 {
        __m512i v;
    };
    using Weights = I32;
    using Inputs = I32;
    // vpdpbusd wants its first factor unsigned: w + 128. The start takes 128 * sum(x) off again.
    static I32 dot_start(const std::int32_t& sum) {
        return {_mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(_mm512_set1_epi32(sum), 7))};
    }
    static Weights load_weights(const std::int8_t* p) {
        return {_mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(static_cast<char>(0x80)))};
    }
    static Inputs broadcast_i8x4(const std::int8_t* p) {
        std::int32_t four;
        __builtin_memcpy(&four, p, 4);
        return {_mm512_set1_epi32(four)};
    }
    // As an instruction, since around the intrinsic GCC 12 copies every sum, and spills what it copies.
    static I32 dot(I32 sum, Weights w, Inputs x) {
        __asm__("vpdpbusd %2, %1, %0" : "+v"(sum.v) : "v"(w.v), "v"(x.v));
        return sum;
    }
    static F32 to_f32(I32 a) { return {_mm512_cvtepi32_ps(a.v)}; }
};

}  // namespace
}  // namespace pygpt
