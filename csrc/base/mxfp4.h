// MXFP4's numbers: values of 4 bits (e2m1) with a scale of 8 (e8m0) for each block of 32 (OCP Microscaling
// Formats 1.0).
#pragma once

#include <cstdint>

namespace pygpt {

// A scale byte e stands for 2^(e - 127); a value's magnitude is one of 0, 0.5, 1, 1.5, 2, 3, 4, 6, and the highest of
// its 4 bits the sign. What is computed with is 2^(e - 128) and twice the value: so a scale is finite for every e, and
// the products are those values to the bit.
constexpr float kFp4Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, -0.0f, -1, -2, -3, -4, -6, -8, -12};

// The bits of 2^(e - 128): a subnormal for 0 and 1.
constexpr std::uint32_t half_scale_bits(std::uint32_t e) { return e < 2 ? 0x00200000u << e : (e - 1) << 23; }

}  // namespace pygpt
