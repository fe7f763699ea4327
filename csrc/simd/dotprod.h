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
};

}  // namespace
}  // namespace pygpt
