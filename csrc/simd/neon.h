// The 16-lane vector as four 128-bit registers (ARMv8's Advanced SIMD). Members are described in simd/scalar.h.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace pygpt {
namespace {

struct Neon {
    static constexpr const char* kName = "neon";
    static constexpr int kRegisters = 8;
    static constexpr int kInt8Registers = 8;
    static constexpr int kInt8Rows = 4;
    static constexpr int kPairRows = 0;

    using Q = float32x4_t;
    struct F32 {
        Q q0, q1, q2, q3;
    };

    static F32 zero() { return set1(0.0f); }
    static F32 set1(float x) {
        const Q v = vdupq_n_f32(x);
        return {v, v, v, v};
    }
    static F32 load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }
    static F32 load(const BFloat16* p) {
        const uint16x8_t low = load_u16(p), high = load_u16(p + 8), none = vdupq_n_u16(0);
        return {vreinterpretq_f32_u16(vzip1q_u16(none, low)), vreinterpretq_f32_u16(vzip2q_u16(none, low)),
                vreinterpretq_f32_u16(vzip1q_u16(none, high)), vreinterpretq_f32_u16(vzip2q_u16(none, high))};
    }
    static F32 load(const Half* p) {
        const float16x8_t low = vreinterpretq_f16_u16(load_u16(p)), high = vreinterpretq_f16_u16(load_u16(p + 8));
        return {vcvt_f32_f16(vget_low_f16(low)), vcvt_high_f32_f16(low), vcvt_f32_f16(vget_low_f16(high)),
                vcvt_high_f32_f16(high)};
    }
    static F32 load_n(const float* p, int n) {
        if (n >= 16) return load(p);
        return {load_4(p, n), load_4(p + 4, n - 4), load_4(p + 8, n - 8), load_4(p + 12, n - 12)};
    }
    static void store(float* p, F32 a) {
        vst1q_f32(p, a.q0);
        vst1q_f32(p + 4, a.q1);
        vst1q_f32(p + 8, a.q2);
        vst1q_f32(p + 12, a.q3);
    }
    static void store(Half* p, F32 a) {
        std::uint16_t* const to = reinterpret_cast<std::uint16_t*>(p);
        vst1q_u16(to, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(a.q0), a.q1)));
        vst1q_u16(to + 8, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(a.q2), a.q3)));
    }
    static void store_n(float* p, F32 a, int n) {
        if (n >= 16) return store(p, a);
        store_4(p, a.q0, n);
        store_4(p + 4, a.q1, n - 4);
        store_4(p + 8, a.q2, n - 8);
        store_4(p + 12, a.q3, n - 12);
    }

    static F32 add(F32 a, F32 b) {
        return each([](Q x, Q y) { return vaddq_f32(x, y); }, a, b);
    }
    static F32 sub(F32 a, F32 b) {
        return each([](Q x, Q y) { return vsubq_f32(x, y); }, a, b);
    }
    static F32 mul(F32 a, F32 b) {
        return each([](Q x, Q y) { return vmulq_f32(x, y); }, a, b);
    }
    static F32 div(F32 a, F32 b) {
        return each([](Q x, Q y) { return vdivq_f32(x, y); }, a, b);
    }
    static F32 sqrt(F32 a) {
        return each([](Q x) { return vsqrtq_f32(x); }, a);
    }
    static F32 fma(F32 a, F32 b, F32 c) {
        return each([](Q x, Q y, Q z) { return vfmaq_f32(z, x, y); }, a, b, c);
    }
    // Comparisons and selections: what the instructions of these names do with a NaN and with two zeros is not x86's.
    static F32 min(F32 a, F32 b) {
        return each([](Q x, Q y) { return vbslq_f32(vcltq_f32(x, y), x, y); }, a, b);
    }
    static F32 max(F32 a, F32 b) {
        return each([](Q x, Q y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }, a, b);
    }
    static F32 select_less(F32 a, F32 b, F32 yes, F32 no) {
        return each([](Q x, Q y, Q t, Q f) { return vbslq_f32(vcltq_f32(x, y), t, f); }, a, b, yes, no);
    }
    static F32 first_n(F32 a, int n, F32 rest) {
        return {first_4(a.q0, n, rest.q0), first_4(a.q1, n - 4, rest.q1), first_4(a.q2, n - 8, rest.q2),
                first_4(a.q3, n - 12, rest.q3)};
    }
    static F32 abs(F32 a) {
        return each([](Q x) { return vabsq_f32(x); }, a);
    }
    static F32 copy_sign(F32 a, F32 s) {
        return each([](Q x, Q y) { return vbslq_f32(vdupq_n_u32(0x80000000u), y, x); }, a, s);
    }
    static F32 add_exponent(F32 a, F32 n) {
        return each(
            [](Q x, Q y) {
                return vreinterpretq_f32_u32(
                    vaddq_u32(vreinterpretq_u32_f32(x), vshlq_n_u32(vreinterpretq_u32_f32(y), 23)));
            },
            a, n);
    }

    static void transpose(const float* from, std::ptrdiff_t ld, float* to) {
        for (int c = 0; c < 16; c += 4) {
            for (int i = 0; i < 16; i += 4) transpose_4x4(from + c * ld + i, ld, to + 16 * i + c);
        }
    }

    static float reduce_add(F32 a) {
        const Q b = vaddq_f32(vaddq_f32(a.q0, a.q2), vaddq_f32(a.q1, a.q3));
        const float32x2_t c = vadd_f32(vget_low_f32(b), vget_high_f32(b));
        return vget_lane_f32(vpadd_f32(c, c), 0);
    }
    static float reduce_max(F32 a) {
        const auto larger = [](Q x, Q y) { return vbslq_f32(vcgtq_f32(x, y), x, y); };
        const Q b = larger(larger(a.q0, a.q2), larger(a.q1, a.q3));
        const Q c = larger(b, vextq_f32(b, b, 2));
        return vgetq_lane_f32(larger(c, vextq_f32(c, c, 1)), 0);
    }

    static F32 load_half_scales(const std::uint8_t* p) {
        const uint8x16_t bytes = vld1q_u8(p);
        const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_high_u8(bytes);
        return {half_scales(vmovl_u16(vget_low_u16(low))), half_scales(vmovl_high_u16(low)),
                half_scales(vmovl_u16(vget_low_u16(high))), half_scales(vmovl_high_u16(high))};
    }
    static void load_fp4(const std::uint8_t* p, F32& low, F32& high) {
        const uint8x16_t bytes = vld1q_u8(p);
        low = fp4(vandq_u8(bytes, vdupq_n_u8(15)));
        high = fp4(vshrq_n_u8(bytes, 4));
    }

    static F32 larger_magnitude(F32 a, F32 b) {
        return each([](Q x, Q y) { return vreinterpretq_f32_u32(larger_magnitude(x, y)); }, a, b);
    }
    static float reduce_magnitude(F32 a) {
        return bits_float(vmaxvq_u32(vmaxq_u32(larger_magnitude(a.q0, a.q1), larger_magnitude(a.q2, a.q3))));
    }
    static F32 rotate_lanes(F32 a) {
        const Q s0 = vaddq_f32(a.q0, a.q2), s1 = vaddq_f32(a.q1, a.q3);
        const Q d0 = vsubq_f32(a.q0, a.q2), d1 = vsubq_f32(a.q1, a.q3);
        return {rotate_4(vaddq_f32(s0, s1)), rotate_4(vsubq_f32(s0, s1)), rotate_4(vaddq_f32(d0, d1)),
                rotate_4(vsubq_f32(d0, d1))};
    }
    static void store_i8(std::int8_t* p, F32 a) { vst1q_s8(p, bytes(a)); }
    static void store_i8x4(std::int8_t* p, F32 a, F32 b, F32 c, F32 d) {
        const int8x16x4_t all = {{bytes(a), bytes(b), bytes(c), bytes(d)}};
        vst4q_s8(p, all);
    }

    struct I32 {
        int32x4_t q0, q1, q2, q3;
    };
    struct Weights {
        int8x16_t q0, q1, q2, q3;
    };
    struct Inputs {
        int8x16_t v;
    };
    static I32 dot_start(std::int32_t) {
        const int32x4_t none = vdupq_n_s32(0);
        return {none, none, none, none};
    }
    static Weights load_weights(const std::int8_t* p) {
        return {vld1q_s8(p), vld1q_s8(p + 16), vld1q_s8(p + 32), vld1q_s8(p + 48)};
    }
    static Inputs broadcast_i8x4(const std::int8_t* p) {
        std::int32_t four;
        __builtin_memcpy(&four, p, 4);
        return {vreinterpretq_s8_s32(vdupq_n_s32(four))};
    }
    static I32 dot(I32 sum, Weights w, Inputs x) {
        return {dot(sum.q0, w.q0, x.v), dot(sum.q1, w.q1, x.v), dot(sum.q2, w.q2, x.v), dot(sum.q3, w.q3, x.v)};
    }
    static F32 to_f32(I32 a) {
        return {vcvtq_f32_s32(a.q0), vcvtq_f32_s32(a.q1), vcvtq_f32_s32(a.q2), vcvtq_f32_s32(a.q3)};
    }

    // A column's sums lie in four lanes until the end.
    struct Int16Products {
        static constexpr int kRowBytes = 128;
        static constexpr int kVectors = 16;
        static constexpr int kSums = 16;
        static constexpr int kRows = 1;
        struct Sums {
            int32x4_t v[16];
        };
        struct Block {
            const std::int8_t* at;
        };

        static void put(std::byte* row, int place, F32 x) {
            std::int16_t* const to = reinterpret_cast<std::int16_t*>(row) + place;
            vst1q_s16(to, words(x.q0, x.q1));
            vst1q_s16(to + 8, words(x.q2, x.q3));
        }
        static Sums start(std::int32_t) {
            Sums sums;
            for (int32x4_t& v : sums.v) v = vdupq_n_s32(0);
            return sums;
        }
        static Block load(const std::int8_t* p) { return {p}; }
        static void add(Sums& sums, Block w, const std::byte* row, int place) {
            const int16x4_t x = vld1_s16(reinterpret_cast<const std::int16_t*>(row) + place);
            const int16x8_t twice = vcombine_s16(x, x);
#pragma GCC unroll 8
            for (int i = 0; i < 16; i += 2) {
                const int16x8_t columns = vmovl_s8(vld1_s8(w.at + 4 * i));
                sums.v[i] = vmlal_s16(sums.v[i], vget_low_s16(columns), x);
                sums.v[i + 1] = vmlal_high_s16(sums.v[i + 1], columns, twice);
            }
        }
        static F32 total(const Sums& sums) {
            const auto four = [&](int i) {
                return vcvtq_f32_s32(
                    vpaddq_s32(vpaddq_s32(sums.v[i], sums.v[i + 1]), vpaddq_s32(sums.v[i + 2], sums.v[i + 3])));
            };
            return {four(0), four(4), four(8), four(12)};
        }

    private:
        static int16x8_t words(Q a, Q b) {
            return vcombine_s16(vmovn_s32(vcvtq_s32_f32(a)), vmovn_s32(vcvtq_s32_f32(b)));
        }
    };
    using KeyProducts = Int16Products;
    using ValueProducts = Int16Products;

private:
    // f register by register.
    template <class F, class... V>
    static F32 each(F f, V... v) {
        return {f(v.q0...), f(v.q1...), f(v.q2...), f(v.q3...)};
    }
    template <class T>
    static uint16x8_t load_u16(const T* p) {
        return vld1q_u16(reinterpret_cast<const std::uint16_t*>(p));
    }
    // The first n of 4 lanes; any n.
    static Q load_4(const float* p, int n) {
        if (n >= 4) return vld1q_f32(p);
        Q v = vdupq_n_f32(0.0f);
        if (n > 0) v = vld1q_lane_f32(p, v, 0);
        if (n > 1) v = vld1q_lane_f32(p + 1, v, 1);
        if (n > 2) v = vld1q_lane_f32(p + 2, v, 2);
        return v;
    }
    static void store_4(float* p, Q v, int n) {
        if (n >= 4) return vst1q_f32(p, v);
        if (n > 0) vst1q_lane_f32(p, v, 0);
        if (n > 1) vst1q_lane_f32(p + 1, v, 1);
        if (n > 2) vst1q_lane_f32(p + 2, v, 2);
    }
    static Q first_4(Q a, int n, Q rest) {
        const int32x4_t lanes = {0, 1, 2, 3};
        return vbslq_f32(vcgtq_s32(vdupq_n_s32(n), lanes), a, rest);
    }
    static void transpose_4x4(const float* from, std::ptrdiff_t ld, float* to) {
        const Q r0 = vld1q_f32(from), r1 = vld1q_f32(from + ld);
        const Q r2 = vld1q_f32(from + 2 * ld), r3 = vld1q_f32(from + 3 * ld);
        const float64x2_t even01 = vreinterpretq_f64_f32(vtrn1q_f32(r0, r1));
        const float64x2_t odd01 = vreinterpretq_f64_f32(vtrn2q_f32(r0, r1));
        const float64x2_t even23 = vreinterpretq_f64_f32(vtrn1q_f32(r2, r3));
        const float64x2_t odd23 = vreinterpretq_f64_f32(vtrn2q_f32(r2, r3));
        vst1q_f32(to, vreinterpretq_f32_f64(vtrn1q_f64(even01, even23)));
        vst1q_f32(to + 16, vreinterpretq_f32_f64(vtrn1q_f64(odd01, odd23)));
        vst1q_f32(to + 32, vreinterpretq_f32_f64(vtrn2q_f64(even01, even23)));
        vst1q_f32(to + 48, vreinterpretq_f32_f64(vtrn2q_f64(odd01, odd23)));
    }
    static uint32x4_t larger_magnitude(Q a, Q b) {
        return vmaxq_u32(vreinterpretq_u32_f32(vabsq_f32(a)), vreinterpretq_u32_f32(vabsq_f32(b)));
    }
    // Sums where the lane's bit of the distance is 0, differences where it is 1; a product with +-1 is exact.
    static Q rotate_4(Q a) {
        const Q by2 = {1, 1, -1, -1}, by1 = {1, -1, 1, -1};
        a = vfmaq_f32(vextq_f32(a, a, 2), a, by2);
        return vfmaq_f32(vrev64q_f32(a), a, by1);
    }
    static int8x16_t bytes(F32 a) {
        const auto words = [](Q x, Q y) {
            return vreinterpretq_s8_s16(
                vuzp1q_s16(vreinterpretq_s16_s32(vcvtq_s32_f32(x)), vreinterpretq_s16_s32(vcvtq_s32_f32(y))));
        };
        return vuzp1q_s8(words(a.q0, a.q1), words(a.q2, a.q3));
    }
    // Two products of bytes in [-127, 127] are at most 2 * 127 * 127, which int16 holds.
    static int32x4_t dot(int32x4_t sum, int8x16_t w, int8x16_t x) {
        const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x)), high = vmull_high_s8(w, x);
        return vpadalq_s16(sum, vpaddq_s16(low, high));
    }
    static Q half_scales(uint32x4_t e) {
        const uint32x4_t normal = vshlq_n_u32(vsubq_u32(e, vdupq_n_u32(1)), 23);
        const uint32x4_t subnormal = vshlq_u32(vdupq_n_u32(0x00200000u), vreinterpretq_s32_u32(e));
        return vreinterpretq_f32_u32(vbslq_u32(vcltq_u32(e, vdupq_n_u32(2)), subnormal, normal));
    }
    // The numbers 0, 1, 2, 3, 4, 6, 8, 12 and their negatives differ in the first two bytes alone.
    static F32 fp4(uint8x16_t values) {
        const uint8x16_t first = {0x00, 0x3f, 0x40, 0x40, 0x40, 0x40, 0x41, 0x41,
                                  0x80, 0xbf, 0xc0, 0xc0, 0xc0, 0xc0, 0xc1, 0xc1};
        const uint8x16_t second = {0x00, 0x80, 0x00, 0x40, 0x80, 0xc0, 0x00, 0x40,
                                   0x00, 0x80, 0x00, 0x40, 0x80, 0xc0, 0x00, 0x40};
        const uint8x16_t f = vqtbl1q_u8(first, values), s = vqtbl1q_u8(second, values);
        const uint16x8_t low = vreinterpretq_u16_u8(vzip1q_u8(s, f)), high = vreinterpretq_u16_u8(vzip2q_u8(s, f));
        const uint16x8_t none = vdupq_n_u16(0);
        return {vreinterpretq_f32_u16(vzip1q_u16(none, low)), vreinterpretq_f32_u16(vzip2q_u16(none, low)),
                vreinterpretq_f32_u16(vzip1q_u16(none, high)), vreinterpretq_f32_u16(vzip2q_u16(none, high))};
    }
};

}  // namespace
}  // namespace pygpt
