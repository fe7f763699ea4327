// Neon with the int8 products of ARMv8.2's dot product instructions.
#pragma once

#include "simd/neon.h"

namespace pygpt {
namespace {

struct DotProd : Neon {
    static constexpr const char* kName = "dotprod";
    static constexpr int kInt8Rows = 6;

    struct Inputs {
        int8x8_t v;
    };
    static Inputs broadcast_i8x4(const std::int8_t* p) {
        std::int32_t four;
        __builtin_memcpy(&four, p, 4);
        return {vreinterpret_s8_s32(vset_lane_s32(four, vdup_n_s32(0), 0))};
    }
    // The instruction itself repeats a lane: broadcasting would take a slot of the units that multiply.
    static I32 dot(I32 sum, Weights w, Inputs x) {
        return {vdotq_lane_s32(sum.q0, w.q0, x.v, 0), vdotq_lane_s32(sum.q1, w.q1, x.v, 0),
                vdotq_lane_s32(sum.q2, w.q2, x.v, 0), vdotq_lane_s32(sum.q3, w.q3, x.v, 0)};
    }

    // A number is 2^bits * high + low, signed bytes both.
    template <int bits>
    struct DigitProducts {
        static constexpr int kRowBytes = 128;  // the high digits, then the low ones
        static constexpr int kVectors = 8;
        static constexpr int kSums = 24;
        static constexpr int kRows = 3;
        struct Sums {
            I32 high, low;
        };
        using Block = Weights;

        static void put(std::byte* row, int place, F32 x) {
            const auto digit = [](Q n) { return vcvtq_f32_s32(vrshrq_n_s32(vcvtq_s32_f32(n), bits)); };
            const F32 high{digit(x.q0), digit(x.q1), digit(x.q2), digit(x.q3)};
            store_i8(reinterpret_cast<std::int8_t*>(row) + place, high);
            store_i8(reinterpret_cast<std::int8_t*>(row) + 64 + place,
                     sub(x, mul(high, set1(static_cast<float>(1 << bits)))));
        }
        static Sums start(std::int32_t) { return {dot_start(0), dot_start(0)}; }
        static Block load(const std::int8_t* p) { return load_weights(p); }
        static void add(Sums& sums, Block w, const std::byte* row, int place) {
            const std::int8_t* const at = reinterpret_cast<const std::int8_t*>(row) + place;
            sums.high = dot(sums.high, w, broadcast_i8x4(at));
            sums.low = dot(sums.low, w, broadcast_i8x4(at + 64));
        }
        static F32 total(const Sums& sums) {
            const auto whole = [](int32x4_t high, int32x4_t low) {
                return vcvtq_f32_s32(vaddq_s32(vshlq_n_s32(high, bits), low));
            };
            return {whole(sums.high.q0, sums.low.q0), whole(sums.high.q1, sums.low.q1),
                    whole(sums.high.q2, sums.low.q2), whole(sums.high.q3, sums.low.q3)};
        }
    };
    using KeyProducts = DigitProducts<7>;
    using ValueProducts = DigitProducts<8>;
};

}  // namespace
}  // namespace pygpt
