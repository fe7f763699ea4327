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

    // A number is 128 * high + low, both in [-127, 127], low in [-64, 64].
    struct KeyProducts {
        static constexpr int kRowBytes = 128;  // the high digits, then the low ones
        static constexpr int kVectors = 2;
        static constexpr int kSums = 24;
        static constexpr int kRows = 3;
        struct Sums {
            I32 high, low;
        };
        using Block = Weights;

        static void put(std::byte* row, int place, F32 x) {
            const __m512i n = _mm512_cvtps_epi32(x.v);
            const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(64)), 7);
            const __m512i low = _mm512_sub_epi32(n, _mm512_slli_epi32(high, 7));
            store_bytes(row + place, high);
            store_bytes(row + 64 + place, low);
        }
        static Sums start(std::int32_t total) { return {{_mm512_setzero_si512()}, dot_start(total)}; }
        static Block load(const std::int8_t* p) { return load_weights(p); }
        static void add(Sums& sums, Block w, const std::byte* row, int place) {
            const std::int8_t* const at = reinterpret_cast<const std::int8_t*>(row) + place;
            sums.high = dot(sums.high, w, broadcast_i8x4(at));
            sums.low = dot(sums.low, w, broadcast_i8x4(at + 64));
        }
        static F32 total(const Sums& sums) {
            return {_mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(sums.high.v, 7), sums.low.v))};
        }
    };
    // A number is 256 * high + low, both unsigned, as vpdpbusd wants its first factor.
    struct ValueProducts {
        static constexpr int kRowBytes = 128;
        static constexpr int kVectors = 2;
        static constexpr int kSums = 24;
        static constexpr int kRows = 3;
        using Sums = KeyProducts::Sums;
        using Block = Weights;

        static void put(std::byte* row, int place, F32 x) {
            const __m512i n = _mm512_cvtps_epi32(x.v);
            store_bytes(row + place, _mm512_srli_epi32(n, 8));
            store_bytes(row + 64 + place, n);
        }
        static Sums start(std::int32_t) { return {{_mm512_setzero_si512()}, {_mm512_setzero_si512()}}; }
        static Block load(const std::int8_t* p) { return {_mm512_loadu_si512(p)}; }
        static void add(Sums& sums, Block w, const std::byte* row, int place) {
            const std::int8_t* const at = reinterpret_cast<const std::int8_t*>(row) + place;
            sums.high = dot(sums.high, broadcast_i8x4(at), w);
            sums.low = dot(sums.low, broadcast_i8x4(at + 64), w);
        }
        static F32 total(const Sums& sums) {
            return {_mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(sums.high.v, 8), sums.low.v))};
        }
    };

private:
    static void store_bytes(std::byte* p, __m512i x) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x));
    }
};

}  // namespace
}  // namespace pygpt
