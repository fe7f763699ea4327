// Element types and buffers.
#include <cstdint>
#include <limits>
#include <new>
#include <utility>

#include "base/buffer.h"
#include "support.h"

namespace pygpt::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// From the definition of IEEE 754 binary16.
double half_value(unsigned bits) {
    const int exponent = static_cast<int>(bits >> 10 & 31u), mantissa = static_cast<int>(bits & 1023u);
    const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
    if (exponent == 31) return mantissa == 0 ? sign * HUGE_VAL : std::nan("");
    return exponent == 0 ? sign * std::ldexp(mantissa, -24) : sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(DType, EveryHalfHasItsValueAndComesBack) {
    for (unsigned bits = 0; bits < 65536; ++bits) {
        const float value = to_float(Half{static_cast<std::uint16_t>(bits)});
        const unsigned back = to_half(value).bits;
        if (std::isnan(half_value(bits))) {
            ASSERT_TRUE(std::isnan(value)) << bits;
            ASSERT_TRUE(std::isnan(half_value(back))) << bits;
        } else {
            ASSERT_EQ(value, half_value(bits)) << bits;
            ASSERT_EQ(back, bits);
        }
    }
}

TEST(DType, EveryBFloat16HasItsValueAndComesBack) {
    for (unsigned bits = 0; bits < 65536; ++bits) {
        const float value = to_float(BFloat16{static_cast<std::uint16_t>(bits)});
        ASSERT_EQ(float_bits(value), bits << 16);
        const unsigned back = to_bfloat16(value).bits;
        if (std::isnan(value)) {
            ASSERT_TRUE(std::isnan(bits_float(back << 16))) << bits;
        } else {
            ASSERT_EQ(back, bits);
        }
    }
}

// Between neighbours the middle goes to the even one and everything else to the nearer one. Beyond the largest finite
// value the next step of the same size counts as infinity.
TEST(DType, HalvesRoundToNearestEven) {
    for (unsigned low = 0; low < 0x7c00u; ++low) {
        const double a = half_value(low), b = low == 0x7bffu ? 65536.0 : half_value(low + 1);
        const float middle = static_cast<float>((a + b) / 2);
        ASSERT_EQ(middle, (a + b) / 2);
        for (const unsigned sign : {0u, 0x8000u}) {
            const float s = sign == 0 ? 1.0f : -1.0f;
            ASSERT_EQ(to_half(s * middle).bits, sign | (low + (low & 1u))) << low;
            ASSERT_EQ(to_half(s * std::nextafter(middle, 0.0f)).bits, sign | low) << low;
            ASSERT_EQ(to_half(s * std::nextafter(middle, kInf)).bits, sign | (low + 1)) << low;
        }
    }
    EXPECT_EQ(to_half(std::numeric_limits<float>::max()).bits, 0x7c00u);
    EXPECT_EQ(to_half(-std::numeric_limits<float>::denorm_min()).bits, 0x8000u);
}

TEST(DType, BFloat16sRoundToNearestEven) {
    for (unsigned low = 0; low < 0x7f80u; ++low) {
        for (const unsigned sign : {0u, 0x8000u}) {
            const unsigned middle = ((sign | low) << 16) | 0x8000u;
            ASSERT_EQ(to_bfloat16(bits_float(middle)).bits, sign | (low + (low & 1u))) << low;
            ASSERT_EQ(to_bfloat16(bits_float(middle - 1)).bits, sign | low) << low;
            ASSERT_EQ(to_bfloat16(bits_float(middle + 1)).bits, sign | (low + 1)) << low;
        }
    }
}

TEST(DType, EveryNanStaysOne) {
    for (const std::uint32_t bits :
         {0x7f800001u, 0x7f808000u, 0x7fbfffffu, 0x7fc00000u, 0x7fffffffu, 0xff800001u, 0xffffffffu}) {
        EXPECT_TRUE(std::isnan(to_float(to_half(bits_float(bits))))) << bits;
        EXPECT_TRUE(std::isnan(to_float(to_bfloat16(bits_float(bits))))) << bits;
    }
}

TEST(Buffer, EmptyOwnsNothing) {
    EXPECT_EQ(Buffer().size(), 0u);
    EXPECT_EQ(Buffer(0).data(), nullptr);
}

TEST(Buffer, IsZeroedAlignedAndWritable) {
    constexpr std::size_t kMega = 1 << 20;
    for (const std::size_t size : {std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{65}, 2 * kMega - 1,
                                   2 * kMega, 2 * kMega + 1, 5 * kMega + 3}) {
        for (int round = 0; round < 2; ++round) {  // a freed block's old contents must not show
            const Buffer buffer(size);
            EXPECT_EQ(buffer.size(), size);
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0u);
            unsigned char any = 0;
            for (std::size_t i = 0; i < size; ++i) any |= buffer.as<unsigned char>()[i];
            EXPECT_EQ(any, 0) << size;
            std::fill_n(buffer.as<unsigned char>(), size, static_cast<unsigned char>(0xa5));
        }
    }
}

TEST(Buffer, MovesLeaveOneOwner) {
    for (const std::size_t size : {std::size_t{100}, std::size_t{3} << 20}) {
        Buffer a(size);
        std::byte* const data = a.data();
        Buffer b(std::move(a));
        EXPECT_EQ(b.data(), data);
        EXPECT_EQ(a.data(), nullptr);  // NOLINT(bugprone-use-after-move): what a moved-from buffer is
        EXPECT_EQ(a.size(), 0u);
        Buffer c(7);
        c = std::move(b);
        EXPECT_EQ(c.data(), data);
        EXPECT_EQ(c.size(), size);
        EXPECT_EQ(b.size(), 0u);
    }
}

TEST(Buffer, WhatCannotBeHadThrows) {
    EXPECT_THROW(Buffer{std::numeric_limits<std::size_t>::max()}, std::bad_alloc);
    EXPECT_THROW(Buffer{std::numeric_limits<std::size_t>::max() / 2}, std::bad_alloc);
}

}  // namespace
}  // namespace pygpt::test
