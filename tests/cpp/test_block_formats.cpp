// The block types of GGUF files. Their values are compared with another implementation in tests/checkpoint.
#include <string_view>

#include "packing/matrix.h"
#include "support.h"

namespace pygpt::test {
namespace {

std::vector<std::uint8_t> random_blocks(const BlockFormat& format, int n, unsigned seed) {
    Random random(seed);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(n * format.bytes));
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random.below(256));
    return bytes;
}

std::vector<float> values(const BlockFormat& format, const std::vector<std::uint8_t>& blocks) {
    const auto n = static_cast<std::ptrdiff_t>(blocks.size()) / format.bytes;
    std::vector<float> out(static_cast<std::size_t>(n * format.values));
    format.dequantize(blocks.data(), n, out.data());
    return out;
}

TEST(BlockFormats, AreTheSameOnEveryInstructionSet) {
    on_each_isa([](const Kernels& k) {
        for (std::size_t i = 0; i < k.blocks.size(); ++i) {
            const BlockFormat &own = k.blocks.at(i), &scalar = scalar_kernels().blocks.at(i);
            EXPECT_EQ(std::string_view(own.name), scalar.name);
            for (const int n : {0, 1, 2, 700}) {
                const auto blocks = random_blocks(scalar, n, static_cast<unsigned>(n));
                EXPECT_TRUE(same_bits(values(own, blocks), values(scalar, blocks))) << own.name << " " << n;
            }
        }
    });
}

// Whatever the strides, the place and the shares of the threads, packing blocks is packing the floats that they stand
// for, and each stretch of rows is said to be used up.
TEST(BlockFormats, ArePackedAsTheirValues) {
    for (const BlockFormat& format : best_kernels().blocks) {
        const int rows = 37, k = 3 * format.values, row_bytes = 3 * format.bytes, stride = row_bytes + 5;
        auto blocks = random_blocks(format, 3 * rows, 3);
        std::vector<float> floats = values(format, blocks);
        for (std::ptrdiff_t b = 0; b < 3 * rows; ++b) {  // int8 can hold no infinities
            const auto begin = floats.begin() + b * format.values;
            if (std::all_of(begin, begin + format.values, [](float x) { return std::abs(x) < 1e6f; })) continue;
            std::fill_n(blocks.begin() + b * format.bytes, format.bytes, std::uint8_t{0});
        }
        floats = values(format, blocks);
        std::vector<std::uint8_t> spread(static_cast<std::size_t>(rows * stride));
        for (int r = 0; r < rows; ++r)
            std::copy_n(blocks.begin() + r * row_bytes, row_bytes, spread.begin() + r * stride);
        const Plain plain{floats.data(), DType::f32, rows, k, k, 1};
        const Plain packed{spread.data(), DType::f32, rows, k, stride, 1, &format};
        for (const LinearFormat& to : best_kernels().formats) {
            for (const Channels channels : {Channels{0, 16}, Channels{21, 16}, Channels{16, 32}}) {
                PackedMatrix expected(128, k, to), found(128, k, to);
                with_team(2, [&](Team& team) {
                    EXPECT_TRUE(expected.write(plain, channels, team));
                    EXPECT_TRUE(found.write(packed, channels, team));
                });
                std::vector<float> a(static_cast<std::size_t>(k)), b(a.size());
                for (int c = 0; c < 128; ++c) {
                    expected.read_row(c, a.data());
                    found.read_row(c, b.data());
                    ASSERT_TRUE(same_bits(b, a)) << format.name << " " << to.name << " " << c;
                }
            }
        }
        std::vector<float> flat(floats.size());
        to_floats(packed, flat.data());
        EXPECT_TRUE(same_bits(flat, floats)) << format.name;
    }
}

}  // namespace
}  // namespace pygpt::test
