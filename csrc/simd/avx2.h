// The 16-lane vector as two ymm registers (AVX2, FMA, F16C). Members are described in simd/scalar.h.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace pygpt {
namespace {

struct Avx2 {
    static constexpr const char* kName = "avx2";
    static constexpr int kRegisters = 8;
    static constexpr int kInt8Registers = 8;
    static constexpr int kInt8Rows = 4;  // beside the sums: weights, their magnitudes, ones, two intermediate results

    struct F32 {
        __m256 lo, hi;
    };

    static F32 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
    static F32 set1(float x) {
        const __m256 v = _mm256_set1_ps(x);
        return {v, v};
    }
    static F32 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
    static F32 load(const BFloat16* p) { return {widen(p), widen(p + 8)}; }
    static F32 load(const Half* p) {
        return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
                _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
    }
    // Whole vectors without a mask: masked loads and stores are many times slower on AMD's processors.
    static F32 load_n(const float* p, int n) {
        if (n >= 16) return load(p);
        return {_mm256_maskload_ps(p, mask(n)), _mm256_maskload_ps(p + 8, mask(n - 8))};
    }
    static void store(float* p, F32 a) {
        _mm256_storeu_ps(p, a.lo);
        _mm256_storeu_ps(p + 8, a.hi);
    }
    static void store(Half* p, F32 a) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
    }
    static void store_n(float* p, F32 a, int n) {
        if (n >= 16) return store(p, a);
        _mm256_maskstore_ps(p, mask(n), a.lo);
        _mm256_maskstore_ps(p + 8, mask(n - 8), a.hi);
    }

    static F32 add(F32 a, F32 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
    static F32 sub(F32 a, F32 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
    static F32 mul(F32 a, F32 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
    static F32 div(F32 a, F32 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
    static F32 sqrt(F32 a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
    static F32 fma(F32 a, F32 b, F32 c) {
        return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
    }
    static F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
    static F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
    static F32 select_less(F32 a, F32 b, F32 yes, F32 no) {
        return {_mm256_blendv_ps(no.lo, yes.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
                _mm256_blendv_ps(no.hi, yes.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
    }
    static F32 first_n(F32 a, int n, F32 rest) {
        return {_mm256_blendv_ps(rest.lo, a.lo, _mm256_castsi256_ps(mask(n))),
                _mm256_blendv_ps(rest.hi, a.hi, _mm256_castsi256_ps(mask(n - 8)))};
    }
    static F32 abs(F32 a) {
        const __m256 sign = _mm256_set1_ps(-0.0f);
        return {_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
    }
    static F32 copy_sign(F32 a, F32 s) {
        const __m256 sign = _mm256_set1_ps(-0.0f);
        return {_mm256_or_ps(_mm256_andnot_ps(sign, a.lo), _mm256_and_ps(sign, s.lo)),
                _mm256_or_ps(_mm256_andnot_ps(sign, a.hi), _mm256_and_ps(sign, s.hi))};
    }
    static F32 add_exponent(F32 a, F32 n) { return {add_exponent(a.lo, n.lo), add_exponent(a.hi, n.hi)}; }

    static void transpose(const float* from, std::ptrdiff_t ld, float* to) {
        for (int half = 0; half < 16; half += 8) {
            for (int i = 0; i < 16; i += 4) transpose_8x4(from + half * ld + i, ld, to + 16 * i + half);
        }
    }

    static float reduce_add(F32 a) {
        const __m256 b = _mm256_add_ps(a.lo, a.hi);
        const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
        const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
        return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
    }
    static float reduce_max(F32 a) {
        const __m256 b = _mm256_max_ps(a.lo, a.hi);
        const __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
        const __m128 d = _mm_max_ps(c, _mm_movehl_ps(c, c));
        return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
    }

    static F32 load_half_scales(const std::uint8_t* p) { return {half_scales(p), half_scales(p + 8)}; }
    static void load_fp4(const std::uint8_t* p, F32& low, F32& high) {
        const __m256i first = widen(p), last = widen(p + 8);
        low = {fp4(first, _mm256_slli_epi32(first, 28)), fp4(last, _mm256_slli_epi32(last, 28))};
        high = {fp4(_mm256_srli_epi32(first, 4), _mm256_slli_epi32(first, 24)),
                fp4(_mm256_srli_epi32(last, 4), _mm256_slli_epi32(last, 24))};
    }

    static F32 larger_magnitude(F32 a, F32 b) { return {larger_magnitude(a.lo, b.lo), larger_magnitude(a.hi, b.hi)}; }
    static float reduce_magnitude(F32 a) {
        const __m256 b = larger_magnitude(a.lo, a.hi);
        const __m128i c =
            _mm_max_epi32(_mm_castps_si128(_mm256_castps256_ps128(b)), _mm_castps_si128(_mm256_extractf128_ps(b, 1)));
        const __m128i d = _mm_max_epi32(c, _mm_shuffle_epi32(c, 0x4e));
        const __m128i e = _mm_max_epi32(d, _mm_shuffle_epi32(d, 0xb1));
        return _mm_cvtss_f32(_mm_castsi128_ps(e));
    }
    static F32 rotate_lanes(F32 a) {
        return {rotate_half(_mm256_add_ps(a.lo, a.hi)), rotate_half(_mm256_sub_ps(a.lo, a.hi))};
    }
    static void store_i8(std::int8_t* p, F32 a) {
        const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
        const __m256i ordered = _mm256_permute4x64_epi64(words, 0xd8);
        const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
    }
    static void store_i8x4(std::int8_t* p, F32 a, F32 b, F32 c, F32 d) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), join(a.lo, b.lo, c.lo, d.lo));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 32), join(a.hi, b.hi, c.hi, d.hi));
    }

    struct I32 {
        __m256i lo, hi;
    };
    using Weights = I32;
    struct Inputs {
        __m256i v;
    };
    static I32 dot_start(std::int32_t) { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
    static Weights load_weights(const std::int8_t* p) {
        return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
                _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32))};
    }
    static Inputs broadcast_i8x4(const std::int8_t* p) {
        std::int32_t four;
        __builtin_memcpy(&four, p, 4);
        return {_mm256_set1_epi32(four)};
    }
    static I32 dot(I32 sum, Weights w, Inputs x) { return {dot(sum.lo, w.lo, x.v), dot(sum.hi, w.hi, x.v)}; }
    static F32 to_f32(I32 a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }

    static constexpr int kPairRows = 5, kPairPanels = 1, kPairLeast = 24;
    static constexpr bool kWinograd = true;
    using PairSum = I32;
    static PairSum pair_zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
    static PairSum load_pairs(const std::int16_t* p) {
        return {_mm256_load_si256(reinterpret_cast<const __m256i*>(p)),
                _mm256_load_si256(reinterpret_cast<const __m256i*>(p + 16))};
    }
    static Inputs broadcast_pair(const std::int16_t* p) {
        return broadcast_i8x4(reinterpret_cast<const std::int8_t*>(p));
    }
    static PairSum load(const std::int32_t* p) { return load_pairs(reinterpret_cast<const std::int16_t*>(p)); }
    static PairSum set1(std::int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
    static void store(std::int32_t* p, PairSum a) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(p), a.lo);
        _mm256_store_si256(reinterpret_cast<__m256i*>(p + 8), a.hi);
    }
    static PairSum sub(PairSum a, PairSum b) { return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)}; }
    static PairSum sub_products(PairSum sum, PairSum a, PairSum b) {
        return sub(sum, {_mm256_madd_epi16(a.lo, b.lo), _mm256_madd_epi16(a.hi, b.hi)});
    }
    struct Four {
        __m256i first, second;  // of 8 channels; the others' are read where they are needed
        const std::int16_t* at;
    };
    static Four load_four(const std::int16_t* p) {
        return {_mm256_load_si256(reinterpret_cast<const __m256i*>(p)),
                _mm256_load_si256(reinterpret_cast<const __m256i*>(p + 32)), p};
    }
    // As instructions, since around intrinsics GCC 12 multiplies for many sums at once, and spills what it has.
    static void add_four(PairSum& sum, const Four& w, Inputs first, Inputs second) {
        __m256i a, b;
        __asm__(
            "vpaddw %[w0], %[x1], %[a]\n\tvpaddw %[w1], %[x0], %[b]\n\t"
            "vpmaddwd %[a], %[b], %[b]\n\tvpaddd %[b], %[lo], %[lo]\n\t"
            "vpaddw %[w2], %[x1], %[x1]\n\tvpaddw %[w3], %[x0], %[x0]\n\t"
            "vpmaddwd %[x0], %[x1], %[x1]\n\tvpaddd %[x1], %[hi], %[hi]"
            : [lo] "+x"(sum.lo), [hi] "+x"(sum.hi), [x0] "+x"(first.v), [x1] "+x"(second.v), [a] "=&x"(a), [b] "=&x"(b)
            : [w0] "x"(w.first), [w1] "x"(w.second), [w2] "m"(*reinterpret_cast<const __m256i*>(w.at + 16)),
              [w3] "m"(*reinterpret_cast<const __m256i*>(w.at + 48)));
    }
    static void widen(const std::int8_t* p, std::int16_t* even, std::int16_t* odd) {
        const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        _mm256_store_si256(reinterpret_cast<__m256i*>(even), _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8));
        _mm256_store_si256(reinterpret_cast<__m256i*>(odd), _mm256_srai_epi16(v, 8));
    }

    // Bytes become words without a shuffle, the even ones of a column's four and the odd ones; so the row's numbers
    // stand in the order 0, 2, 1, 3.
    struct Int16Products {
        static constexpr int kRowBytes = 128;
        static constexpr int kVectors = 2;
        static constexpr int kSums = 8;
        static constexpr int kRows = 4;
        using Sums = I32;
        struct Block {
            __m256i even_lo, odd_lo, even_hi, odd_hi;
        };

        static void put(std::byte* row, int place, F32 x) {
            const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi));
            const __m256i order =
                _mm256_set_epi64x(0x0f0e0b0a0d0c0908, 0x0706030205040100, 0x0f0e0b0a0d0c0908, 0x0706030205040100);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + 2 * place),
                                _mm256_shuffle_epi8(_mm256_permute4x64_epi64(words, 0xd8), order));
        }
        static Sums start(std::int32_t) { return dot_start(0); }
        static Block load(const std::int8_t* p) {
            const Weights w = load_weights(p);
            return {even(w.lo), _mm256_srai_epi16(w.lo, 8), even(w.hi), _mm256_srai_epi16(w.hi, 8)};
        }
        static void add(Sums& sums, const Block& w, const std::byte* row, int place) {
            const std::int8_t* const at = reinterpret_cast<const std::int8_t*>(row) + 2 * place;
            const __m256i x = broadcast_i8x4(at).v, y = broadcast_i8x4(at + 4).v;
            sums.lo = _mm256_add_epi32(sums.lo, products(w.even_lo, x, w.odd_lo, y));
            sums.hi = _mm256_add_epi32(sums.hi, products(w.even_hi, x, w.odd_hi, y));
        }
        static F32 total(const Sums& sums) { return to_f32(sums); }

    private:
        static __m256i even(__m256i v) { return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8); }
        static __m256i products(__m256i a, __m256i x, __m256i b, __m256i y) {
            return _mm256_add_epi32(_mm256_madd_epi16(a, x), _mm256_madd_epi16(b, y));
        }
    };
    using KeyProducts = Int16Products;
    using ValueProducts = Int16Products;

private:
    // 8 rows of 4 values: each half of a register takes 4 rows and is turned by itself.
    static void transpose_8x4(const float* from, std::ptrdiff_t ld, float* to) {
        const auto rows = [&](int c) {
            const __m256 low = _mm256_castps128_ps256(_mm_loadu_ps(from + c * ld));
            return _mm256_insertf128_ps(low, _mm_loadu_ps(from + (c + 4) * ld), 1);
        };
        const __m256 r0 = rows(0), r1 = rows(1), r2 = rows(2), r3 = rows(3);
        const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(r0, r1)),
                      b = _mm256_castps_pd(_mm256_unpackhi_ps(r0, r1));
        const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(r2, r3)),
                      d = _mm256_castps_pd(_mm256_unpackhi_ps(r2, r3));
        _mm256_storeu_ps(to, _mm256_castpd_ps(_mm256_unpacklo_pd(a, c)));
        _mm256_storeu_ps(to + 16, _mm256_castpd_ps(_mm256_unpackhi_pd(a, c)));
        _mm256_storeu_ps(to + 32, _mm256_castpd_ps(_mm256_unpacklo_pd(b, d)));
        _mm256_storeu_ps(to + 48, _mm256_castpd_ps(_mm256_unpackhi_pd(b, d)));
    }
    static __m256 larger_magnitude(__m256 a, __m256 b) {
        const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
        return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_and_si256(_mm256_castps_si256(a), magnitude),
                                                    _mm256_and_si256(_mm256_castps_si256(b), magnitude)));
    }
    // Sums where the lane's bit of the distance is 0, differences where it is 1; a product with +-1 is exact.
    static __m256 rotate_half(__m256 a) {
        const __m256 by4 = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);
        const __m256 by2 = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1);
        const __m256 by1 = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1);
        a = _mm256_fmadd_ps(a, by4, _mm256_permute2f128_ps(a, a, 1));
        a = _mm256_fmadd_ps(a, by2, _mm256_permute_ps(a, 0x4e));
        return _mm256_fmadd_ps(a, by1, _mm256_permute_ps(a, 0xb1));
    }
    static __m256i join(__m256 a, __m256 b, __m256 c, __m256 d) {
        const __m256i byte = _mm256_set1_epi32(0xff);
        const auto low = [&](__m256 x) { return _mm256_and_si256(_mm256_cvtps_epi32(x), byte); };
        return _mm256_or_si256(
            _mm256_or_si256(low(a), _mm256_slli_epi32(low(b), 8)),
            _mm256_or_si256(_mm256_slli_epi32(low(c), 16), _mm256_slli_epi32(_mm256_cvtps_epi32(d), 24)));
    }
    // maddubs adds two products of an unsigned and a signed byte in int16: with |w| and x under the sign of w these are
    // at most 2 * 127 * 128, which int16 holds.
    static __m256i dot(__m256i sum, __m256i w, __m256i x) {
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
        return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    static __m256i widen(const std::uint8_t* p) {
        return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    }
    static __m256 half_scales(const std::uint8_t* p) {
        const __m256i e = widen(p);
        const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
        const __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
        return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, subnormal, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
    }
    // Magnitudes by the lowest 3 bits of `value`, and the highest bit of `sign`.
    static __m256 fp4(__m256i value, __m256i sign) {
        const __m256 magnitudes = _mm256_setr_ps(0, 1, 2, 3, 4, 6, 8, 12);
        return _mm256_or_ps(_mm256_permutevar8x32_ps(magnitudes, value),
                            _mm256_and_ps(_mm256_castsi256_ps(sign), _mm256_set1_ps(-0.0f)));
    }
    static __m256 widen(const BFloat16* p) {
        const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
        return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
    }
    static __m256i mask(int n) {  // the first n of 8 lanes; any n
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
    static __m256 add_exponent(__m256 a, __m256 n) {
        return _mm256_castsi256_ps(
            _mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(_mm256_castps_si256(n), 23)));
    }
};

}  // namespace
}  // namespace pygpt
