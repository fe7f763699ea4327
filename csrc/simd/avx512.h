// The 16-lane vector as one zmm register (AVX-512 F, BW, VL, DQ). Members are described in simd/scalar.h.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "simd/avx2.h"

namespace pygpt {
namespace {

struct Avx512 {
    static constexpr const char* kName = "avx512";
    static constexpr int kRegisters = 32;
    static constexpr int kInt8Registers = 8;
    static constexpr int kInt8Rows = 4;

    struct F32 {
        __m512 v;
    };

    static F32 zero() { return {_mm512_setzero_ps()}; }
    static F32 set1(float x) { return {_mm512_set1_ps(x)}; }
    static F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
    static F32 load(const BFloat16* p) {
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
        return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
    }
    static F32 load(const Half* p) {
        return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
    }
    static F32 load_n(const float* p, int n) { return n >= 16 ? load(p) : F32{_mm512_maskz_loadu_ps(mask(n), p)}; }
    static void store(float* p, F32 a) { _mm512_storeu_ps(p, a.v); }
    static void store(Half* p, F32 a) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
    }
    static void store_n(float* p, F32 a, int n) {
        if (n >= 16) return store(p, a);
        _mm512_mask_storeu_ps(p, mask(n), a.v);
    }

    static F32 add(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
    static F32 sub(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
    static F32 mul(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
    static F32 div(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
    static F32 sqrt(F32 a) { return {_mm512_sqrt_ps(a.v)}; }
    static F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
    static F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
    static F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
    static F32 select_less(F32 a, F32 b, F32 yes, F32 no) {
        return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
    }
    static F32 first_n(F32 a, int n, F32 rest) { return {_mm512_mask_blend_ps(mask(n), rest.v, a.v)}; }
    static F32 abs(F32 a) { return {_mm512_andnot_ps(_mm512_set1_ps(-0.0f), a.v)}; }
    static F32 copy_sign(F32 a, F32 s) {
        const __m512 sign = _mm512_set1_ps(-0.0f);
        return {_mm512_or_ps(_mm512_andnot_ps(sign, a.v), _mm512_and_ps(sign, s.v))};
    }
    static F32 add_exponent(F32 a, F32 n) {
        return {_mm512_castsi512_ps(
            _mm512_add_epi32(_mm512_castps_si512(a.v), _mm512_slli_epi32(_mm512_castps_si512(n.v), 23)))};
    }

    static void transpose(const float* from, std::ptrdiff_t ld, float* to) {
        for (int i = 0; i < 16; i += 4) transpose_16x4(from + i, ld, to + 16 * i);
    }

    static float reduce_add(F32 a) {
        const __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
        const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
        const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
        return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
    }
    static float reduce_max(F32 a) {
        const __m256 b = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
        const __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
        const __m128 d = _mm_max_ps(c, _mm_movehl_ps(c, c));
        return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
    }

    static F32 load_half_scales(const std::uint8_t* p) {
        const __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
        const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
        const __m512i subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
        const __mmask16 small = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));
        return {_mm512_castsi512_ps(_mm512_mask_blend_epi32(small, normal, subnormal))};
    }
    static void load_fp4(const std::uint8_t* p, F32& low, F32& high) {
        const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
        const __m512 values = _mm512_setr_ps(0, 1, 2, 3, 4, 6, 8, 12, -0.0f, -1, -2, -3, -4, -6, -8, -12);
        low.v = _mm512_permutexvar_ps(bytes, values);  // looks at the lowest 4 bits only
        high.v = _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), values);
    }

    static F32 larger_magnitude(F32 a, F32 b) {
        const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
        return {_mm512_castsi512_ps(_mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(a.v), magnitude),
                                                     _mm512_and_si512(_mm512_castps_si512(b.v), magnitude)))};
    }
    static float reduce_magnitude(F32 a) {
        return Avx2::reduce_magnitude({_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1)});
    }
    // Sums where the lane's bit of the distance is 0, differences where it is 1; a product with +-1 is exact.
    static F32 rotate_lanes(F32 a) {
        const auto stage = [&](__m512 partner, __mmask16 differences) {
            const __m512 sign = _mm512_mask_blend_ps(differences, _mm512_set1_ps(1.0f), _mm512_set1_ps(-1.0f));
            a.v = _mm512_fmadd_ps(a.v, sign, partner);
        };
        stage(_mm512_shuffle_f32x4(a.v, a.v, 0x4e), 0xff00);
        stage(_mm512_shuffle_f32x4(a.v, a.v, 0xb1), 0xf0f0);
        stage(_mm512_permute_ps(a.v, 0x4e), 0xcccc);
        stage(_mm512_permute_ps(a.v, 0xb1), 0xaaaa);
        return a;
    }
    static void store_i8(std::int8_t* p, F32 a) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v)));
    }
    static void store_i8x4(std::int8_t* p, F32 a, F32 b, F32 c, F32 d) {
        const __m512i byte = _mm512_set1_epi32(0xff);
        const auto low = [&](F32 x) { return _mm512_and_si512(_mm512_cvtps_epi32(x.v), byte); };
        const __m512i ab = _mm512_or_si512(low(a), _mm512_slli_epi32(low(b), 8));
        const __m512i cd =
            _mm512_or_si512(_mm512_slli_epi32(low(c), 16), _mm512_slli_epi32(_mm512_cvtps_epi32(d.v), 24));
        _mm512_storeu_si512(p, _mm512_or_si512(ab, cd));
    }

    // AVX-512 without VNNI has no sign trick of its own: int8 products in halves.
    using I32 = Avx2::I32;
    using Weights = Avx2::Weights;
    using Inputs = Avx2::Inputs;
    static I32 dot_start(std::int32_t sum) { return Avx2::dot_start(sum); }
    static Weights load_weights(const std::int8_t* p) { return Avx2::load_weights(p); }
    static Inputs broadcast_i8x4(const std::int8_t* p) { return Avx2::broadcast_i8x4(p); }
    static I32 dot(I32 sum, Weights w, Inputs x) { return Avx2::dot(sum, w, x); }
    static F32 to_f32(I32 a) { return {_mm512_cvtepi32_ps(_mm512_inserti64x4(_mm512_castsi256_si512(a.lo), a.hi, 1))}; }

    static constexpr int kPairRows = 9, kPairPanels = 3, kPairLeast = 9;
    static constexpr bool kWinograd = false;
    struct PairSum {
        __m512i v;
    };
    static PairSum pair_zero() { return {_mm512_setzero_si512()}; }
    static PairSum load_pairs(const std::int16_t* p) { return {_mm512_load_si512(p)}; }
    static PairSum broadcast_pair(const std::int16_t* p) {
        std::int32_t two;
        __builtin_memcpy(&two, p, 4);
        return {_mm512_set1_epi32(two)};
    }
    static PairSum add_pairs(PairSum sum, PairSum w, PairSum x) {  // as instructions, as simd/avx2.h says
        __m512i products;
        __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+v"(sum.v), "=&v"(products) : "v"(w.v), "v"(x.v));
        return sum;
    }
    static F32 to_f32(PairSum a) { return {_mm512_cvtepi32_ps(a.v)}; }
    static void widen(const std::int8_t* p, std::int16_t* even, std::int16_t* odd) { Avx2::widen(p, even, odd); }

    struct Int16Products {  // as in simd/avx2.h
        static constexpr int kRowBytes = 128;
        static constexpr int kVectors = 1;
        static constexpr int kSums = 24;
        static constexpr int kRows = 6;
        using Sums = PairSum;
        struct Block {
            __m512i even, odd;
        };

        static void put(std::byte* row, int place, F32 x) {
            Avx2::Int16Products::put(row, place, {_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1)});
        }
        static Sums start(std::int32_t) { return pair_zero(); }
        static Block load(const std::int8_t* p) {
            const __m512i v = _mm512_loadu_si512(p);
            return {_mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8), _mm512_srai_epi16(v, 8)};
        }
        static void add(Sums& sums, Block w, const std::byte* row, int place) {
            const std::int16_t* const at = reinterpret_cast<const std::int16_t*>(row) + place;
            const PairSum x = broadcast_pair(at), y = broadcast_pair(at + 2);
            sums.v = _mm512_add_epi32(sums.v,
                                      _mm512_add_epi32(_mm512_madd_epi16(w.even, x.v), _mm512_madd_epi16(w.odd, y.v)));
        }
        static F32 total(const Sums& sums) { return to_f32(sums); }
    };
    using KeyProducts = Int16Products;
    using ValueProducts = Int16Products;

private:
    // 16 rows of 4 values: each quarter of a register takes 4 rows, by a masked load that needs no shuffle, and is
    // turned by itself.
    static void transpose_16x4(const float* from, std::ptrdiff_t ld, float* to) {
        const auto rows = [&](int c) {
            __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(from + c * ld));
            v = _mm512_mask_broadcast_f32x4(v, 0x00f0, _mm_loadu_ps(from + (c + 4) * ld));
            v = _mm512_mask_broadcast_f32x4(v, 0x0f00, _mm_loadu_ps(from + (c + 8) * ld));
            return _mm512_mask_broadcast_f32x4(v, 0xf000, _mm_loadu_ps(from + (c + 12) * ld));
        };
        const __m512 r0 = rows(0), r1 = rows(1), r2 = rows(2), r3 = rows(3);
        const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r0, r1)),
                      b = _mm512_castps_pd(_mm512_unpackhi_ps(r0, r1));
        const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(r2, r3)),
                      d = _mm512_castps_pd(_mm512_unpackhi_ps(r2, r3));
        _mm512_storeu_ps(to, _mm512_castpd_ps(_mm512_unpacklo_pd(a, c)));
        _mm512_storeu_ps(to + 16, _mm512_castpd_ps(_mm512_unpackhi_pd(a, c)));
        _mm512_storeu_ps(to + 32, _mm512_castpd_ps(_mm512_unpacklo_pd(b, d)));
        _mm512_storeu_ps(to + 48, _mm512_castpd_ps(_mm512_unpackhi_pd(b, d)));
    }
    static __mmask16 mask(int n) { return static_cast<__mmask16>((1u << (n < 0 ? 0 : n < 16 ? n : 16)) - 1u); }
};

}  // namespace
}  // namespace pygpt
