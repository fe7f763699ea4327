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
    static __m256i dot(__m256i sum, __m256i first, __m256i second) {
        __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(first), "x"(second));
        return sum;
    }
    static I32 dot(I32 sum, Weights w, Inputs x) { return {dot(sum.lo, w.lo, x.v), dot(sum.hi, w.hi, x.v)}; }

    // As Avx512Vnni's, in halves.
    struct KeyProducts {
        static constexpr int kRowBytes = 128;
        static constexpr int kVectors = 4;
        static constexpr int kSums = 12;
        static constexpr int kRows = 3;
        struct Sums {
            I32 high, low;
        };
        using Block = Weights;

        static void put(std::byte* row, int place, F32 x) {
            const auto high = [](__m256i n) {
                return _mm256_srai_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(64)), 7);
            };
            const __m256i first = _mm256_cvtps_epi32(x.lo), last = _mm256_cvtps_epi32(x.hi);
            const __m256i a = high(first), b = high(last);
            store_bytes(row + place, a, b);
            store_bytes(row + 64 + place, _mm256_sub_epi32(first, _mm256_slli_epi32(a, 7)),
                        _mm256_sub_epi32(last, _mm256_slli_epi32(b, 7)));
        }
        static Sums start(std::int32_t total) {
            const __m256i zero = _mm256_setzero_si256();
            return {{zero, zero}, dot_start(total)};
        }
        static Block load(const std::int8_t* p) { return load_weights(p); }
        static void add(Sums& sums, Block w, const std::byte* row, int place) {
            const std::int8_t* const at = reinterpret_cast<const std::int8_t*>(row) + place;
            sums.high = dot(sums.high, w, broadcast_i8x4(at));
            sums.low = dot(sums.low, w, broadcast_i8x4(at + 64));
        }
        static F32 total(const Sums& sums) { return whole<7>(sums); }
    };
    struct ValueProducts {
        static constexpr int kRowBytes = 128;
        static constexpr int kVectors = 4;
        static constexpr int kSums = 12;
        static constexpr int kRows = 3;
        using Sums = KeyProducts::Sums;
        using Block = Weights;

        static void put(std::byte* row, int place, F32 x) {
            const __m256i first = _mm256_cvtps_epi32(x.lo), last = _mm256_cvtps_epi32(x.hi);
            store_bytes(row + place, _mm256_srli_epi32(first, 8), _mm256_srli_epi32(last, 8));
            store_bytes(row + 64 + place, first, last);
        }
        static Sums start(std::int32_t) { return KeyProducts::start(0); }
        static Block load(const std::int8_t* p) { return Avx2::load_weights(p); }
        static void add(Sums& sums, Block w, const std::byte* row, int place) {
            const std::int8_t* const at = reinterpret_cast<const std::int8_t*>(row) + place;
            const __m256i high = broadcast_i8x4(at).v, low = broadcast_i8x4(at + 64).v;
            sums.high = {dot(sums.high.lo, high, w.lo), dot(sums.high.hi, high, w.hi)};
            sums.low = {dot(sums.low.lo, low, w.lo), dot(sums.low.hi, low, w.hi)};
        }
        static F32 total(const Sums& sums) { return whole<8>(sums); }
    };

private:
    // 2^bits * high + low.
    template <int bits, class Sums>
    static F32 whole(const Sums& sums) {
        const auto half = [](__m256i high, __m256i low) {
            return _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_slli_epi32(high, bits), low));
        };
        return {half(sums.high.lo, sums.low.lo), half(sums.high.hi, sums.low.hi)};
    }
    // The lowest bytes of 16 integers.
    static void store_bytes(std::byte* p, __m256i first, __m256i last) {
        const __m256i byte = _mm256_set1_epi32(0xff);
        const __m256i words = _mm256_packus_epi32(_mm256_and_si256(first, byte), _mm256_and_si256(last, byte));
        const __m256i ordered = _mm256_permute4x64_epi64(words, 0xd8);
        const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
    }
};

}  // namespace
}  // namespace pygpt
