// AVX-512's vectors with the products of bfloat16 pairs (AVX512_BF16), for training: their sums are float32, but not
// the chain of fused multiply-adds that every other instruction set gives.
#pragma once

#include "simd/avx512.h"

namespace pygpt {
namespace {

struct Avx512Bf16 : Avx512 {
    struct Pairs {
        __m512i v;
    };

    using Avx512::fma, Avx512::load, Avx512::set1, Avx512::store, Avx512::transpose;

    static Pairs load(const BFloat16Pair* p) { return {_mm512_loadu_si512(p)}; }
    static Pairs set1(BFloat16Pair pair) {
        std::int32_t bits;
        __builtin_memcpy(&bits, &pair, sizeof bits);
        return {_mm512_set1_epi32(bits)};
    }
    static void store(BFloat16Pair* p, Pairs a) { _mm512_storeu_si512(p, a.v); }

    // Each lane's two products, added to its sum.
    static F32 fma(Pairs a, Pairs b, F32 sum) { return {_mm512_dpbf16_ps(sum.v, of(a), of(b))}; }

    // Rounded to nearest even: 32 values in order; and those that stand at the same lane side by side.
    static Pairs in_order(F32 low, F32 high) {
        const __m512bh values = _mm512_cvtne2ps_pbh(high.v, low.v);
        Pairs pairs;
        __builtin_memcpy(&pairs.v, &values, sizeof values);
        return pairs;
    }
    static Pairs side_by_side(F32 first, F32 second) {
        const __m512i alternate = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7,
                                                   22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        return {_mm512_permutexvar_epi16(alternate, in_order(first, second).v)};
    }
    static void store(BFloat16* p, F32 a) {
        const __m256bh values = _mm512_cvtneps_pbh(a.v);
        __builtin_memcpy(p, &values, sizeof values);
    }

    static void transpose(const BFloat16Pair* from, std::ptrdiff_t ld, BFloat16Pair* to) {
        Avx512::transpose(reinterpret_cast<const float*>(from), ld, reinterpret_cast<float*>(to));  // moves bits only
    }

private:
    static __m512bh of(Pairs a) {
        __m512bh values;
        __builtin_memcpy(&values, &a.v, sizeof values);
        return values;
    }
};

}  // namespace
}  // namespace pygpt
