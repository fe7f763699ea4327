// Element types of stored tensors, and the exact conversions between them.
#pragma once

#include <cstdint>
#include <cstring>

namespace pygpt {

enum class DType : std::uint8_t { f32, f16, bf16, i8, u8 };

constexpr std::size_t size_of(DType t) { return t == DType::f32 ? 4 : t == DType::f16 || t == DType::bf16 ? 2 : 1; }

struct Half {
    std::uint16_t bits;
};
struct BFloat16 {
    std::uint16_t bits;
};
struct alignas(4) BFloat16Pair {  // what an instruction multiplies with another pair, and adds up
    BFloat16 first, second;
};

// `static`, not `inline`: these are also compiled into the instruction sets' translation units, and the linker must
// never be able to choose one of those copies for everybody.

static inline std::uint32_t float_bits(float x) {
    std::uint32_t u;
    std::memcpy(&u, &x, 4);
    return u;
}

static inline float bits_float(std::uint32_t u) {
    float x;
    std::memcpy(&x, &u, 4);
    return x;
}

static inline float to_float(float x) { return x; }

static inline float to_float(BFloat16 x) { return bits_float(static_cast<std::uint32_t>(x.bits) << 16); }

// Exponent and mantissa move into place, then one multiplication by 2^112 corrects the bias and normalises subnormals.
static inline float to_float(Half x) {
    const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
    const std::uint32_t rest = static_cast<std::uint32_t>(x.bits & 0x7fffu) << 13;
    if (rest >= 0x0f800000u) return bits_float(sign | 0x70000000u | rest);  // infinity and NaN
    return bits_float(sign | float_bits(bits_float(rest) * 0x1p112f));
}

// Round to nearest, ties to even; a NaN stays one.
static inline BFloat16 to_bfloat16(float x) {
    const std::uint32_t u = float_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((u >> 16) | 0x40u)};
    return {static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

// Round to nearest, ties to even; beyond the range: infinity; a NaN stays one.
static inline Half to_half(float x) {
    const std::uint32_t u = float_bits(x);
    const std::uint32_t sign = (u >> 16) & 0x8000u;
    const std::uint32_t mag = u & 0x7fffffffu;
    std::uint32_t h;
    if (mag > 0x7f800000u) {
        h = 0x7e00u;
    } else if (mag >= 0x477ff000u) {
        h = 0x7c00u;
    } else if (mag < 0x38800000u) {  // subnormal: the addition of 1/2 rounds at the last place, 2^-24
        h = float_bits(bits_float(mag) + 0.5f) - 0x3f000000u;
    } else {
        h = (mag - 0x38000000u + 0xfffu + ((mag >> 13) & 1u)) >> 13;
    }
    return {static_cast<std::uint16_t>(sign | h)};
}

}  // namespace pygpt
