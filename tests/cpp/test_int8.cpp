// The int8 format: rotation, quantisation and packing, each against its description and on each ISA.
#include <array>
#include <cstring>
#include <limits>
#include <string>

#include "support_int8.h"

namespace pygpt::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// x H, from the definition of Sylvester's matrix: entry (i, j) is -1 to the number of ones that i and j share.
std::vector<double> rotated(std::span<const float> x, int size) {
    std::vector<double> out(static_cast<std::size_t>(size), 0.0);
    for (std::size_t j = 0; j < out.size(); ++j) {
        for (std::size_t i = 0; i < x.size(); ++i) out[j] += (__builtin_popcountll(i & j) % 2 == 0 ? 1.0 : -1.0) * x[i];
    }
    return out;
}

TEST(Int8, GroupsCoverTheInputs) {
    for (const auto& [k, padded, groups] : {std::array{1, 64, 1},
                                            {64, 64, 1},
                                            {65, 128, 1},
                                            {128, 128, 1},
                                            {129, 192, 2},
                                            {576, 576, 5},
                                            {768, 768, 6}}) {
        EXPECT_EQ(padded_inputs(k), padded);
        EXPECT_EQ(int8_groups(k), groups);
        EXPECT_EQ(int8(best_kernels()).padded(k), padded);
        EXPECT_EQ(int8(best_kernels()).groups(k), groups);
    }
}

// Every value lies within half a step of the rotated one, and the largest of a group is +-127.
TEST(Int8, QuantizeRotatesAndRounds) {
    Random random(1);
    for (const int k : {1, 5, 63, 64, 65, 127, 128, 129, 300, 576, 768}) {
        for (const float size : {1.0f, 1e-20f, 1e20f}) {
            const std::vector<float> x = random.floats(k, -size, size);
            on_each_isa([&](const Kernels& kernels) {
                Rows rows(1, k);
                int8(kernels).prepare(x.data(), k, rows.view());
                for (int g = 0; g < int8_groups(k); ++g) {
                    const int from = g * kInt8Group, n = std::min(kInt8Group, k - from), length = group_size(k, from);
                    const auto exact = rotated(
                        std::span(x).subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(n)), length);
                    const double step = rows.scale(0, g);
                    int sum = 0, largest = 0;
                    for (int i = 0; i < length; ++i) {
                        const int q = rows.q.data()[from + i];
                        sum += q;
                        largest = std::max(largest, std::abs(q));
                        // half a step, and the rounding of seven sums, of the scale and of the quotient
                        ASSERT_NEAR(q * step, exact[static_cast<std::size_t>(i)], step * (0.5 + 127 * 12 * kEps * 8));
                    }
                    EXPECT_EQ(largest, 127);
                    EXPECT_EQ(rows.sum(0, g), sum);
                }
                EXPECT_TRUE(rows.q.intact() && rows.scales.intact() && rows.sums.intact());
            });
        }
    }
}

TEST(Int8, QuantizeGivesTheSameBitsOnEachIsa) {
    Random random(2);
    for (int k = 1; k < 420; k += k < 140 ? 1 : 37) {
        std::vector<float> x = random.floats(k, -3.0f, 3.0f);
        for (int i = 0; i < k; ++i) {
            if (random.below(9) == 0) x.data()[i] *= 50.0f;  // outliers
            if (random.below(9) == 0) x.data()[i] = -0.0f;
        }
        Rows expected(1, k);
        int8(scalar_kernels()).prepare(x.data(), k, expected.view());
        on_each_isa([&](const Kernels& kernels) {
            Rows found(1, k);
            int8(kernels).prepare(x.data(), k, found.view());
            EXPECT_TRUE(std::equal(found.q.all().begin(), found.q.all().end(), expected.q.all().begin())) << k;
            EXPECT_TRUE(same_bits(found.scales.all(), expected.scales.all())) << k;
            EXPECT_TRUE(std::equal(found.sums.all().begin(), found.sums.all().end(), expected.sums.all().begin())) << k;
        });
    }
}

TEST(Int8, QuantizeKnowsZeroTinyAndUnusableGroups) {
    constexpr int k = 200;
    for (const float special : {0.0f, 1e-40f, 9e-31f, kInf, -kInf, kNaN, 3e38f}) {
        std::vector<float> x(k, 0.0f);
        for (int i = 0; i < 128; ++i) x[static_cast<std::size_t>(i)] = 1.0f;
        x[150] = special;
        x[151] = std::isinf(special) || special == 3e38f ? special : 0.0f;  // 3e38 twice overflows
        on_each_isa([&](const Kernels& kernels) {
            Rows rows(1, k);
            int8(kernels).prepare(x.data(), k, rows.view());
            EXPECT_EQ(rows.scale(0, 0), 128.0f * (1.0f / 127.0f)) << "the first group is untouched";
            EXPECT_EQ(rows.q.data()[0], 127);
            const bool usable = special != 0.0f && std::abs(special) < 1e-30f;
            if (special == 0.0f || usable) {
                EXPECT_EQ(rows.scale(0, 1), 0.0f) << special;
            } else {
                EXPECT_TRUE(std::isnan(rows.scale(0, 1))) << special;
            }
            for (int i = 128; i < 256; ++i) ASSERT_EQ(rows.q.data()[i], 0);
            EXPECT_EQ(rows.sum(0, 1), 0);
        });
    }
}

struct Panel {
    Aligned<std::int8_t> q;
    std::vector<BFloat16> scales;
    explicit Panel(int k) : q(padded_inputs(k) * 16), scales(static_cast<std::size_t>(int8_groups(k)) * 16) {}
};

TEST(Int8, PackRotatesAndRoundsEachChannel) {
    Random random(3);
    for (const int k : {1, 4, 63, 64, 66, 128, 190, 256, 300}) {
        std::vector<float> weights = random.floats(k * 16, -0.5f, 0.5f);
        for (int i = 0; i < k; ++i) weights[static_cast<std::size_t>(i * 16 + 5)] = 0.0f;  // a channel of zeros
        Panel expected(k);
        EXPECT_TRUE(int8(scalar_kernels()).pack({weights.data(), k, expected.q.data(), expected.scales.data()}));
        for (int c = 0; c < 16; ++c) {
            for (int g = 0; g < int8_groups(k); ++g) {
                const int from = g * kInt8Group, n = std::min(kInt8Group, k - from), size = group_size(k, from);
                std::vector<float> column(static_cast<std::size_t>(n));
                for (int i = 0; i < n; ++i)
                    column[static_cast<std::size_t>(i)] = weights[static_cast<std::size_t>((from + i) * 16 + c)];
                const auto exact = rotated(column, size);
                const double step =
                    to_float(expected.scales[static_cast<std::size_t>(g * 16 + c)]) * static_cast<double>(size);
                int largest = 0;
                for (int i = 0; i < size; ++i) {
                    const int q = expected.q.data()[(from + i) / 4 * 64 + c * 4 + i % 4];
                    largest = std::max(largest, std::abs(q));
                    ASSERT_NEAR(q * step, exact[static_cast<std::size_t>(i)], step * (0.5 + 127 * 12 * kEps * 8));
                }
                EXPECT_GE(largest, c == 5 ? 0 : 126);  // a bfloat16 above the exact scale is at most 1/128 larger
                EXPECT_LE(largest, c == 5 ? 0 : 127);
            }
        }
        on_each_isa([&](const Kernels& kernels) {
            Panel found(k);
            EXPECT_TRUE(int8(kernels).pack({weights.data(), k, found.q.data(), found.scales.data()}));
            EXPECT_TRUE(std::equal(found.q.all().begin(), found.q.all().end(), expected.q.all().begin())) << k;
            EXPECT_EQ(std::memcmp(found.scales.data(), expected.scales.data(), expected.scales.size() * 2), 0) << k;
            EXPECT_TRUE(found.q.intact());
        });
    }
}

TEST(Int8, PackRefusesWhatIsNotFinite) {
    for (const float bad : {kInf, -kInf, kNaN, 3.3e38f}) {
        for (const int at : {0, 70, 129}) {
            std::vector<float> weights(130 * 16, 1.0f);
            weights[static_cast<std::size_t>(at * 16 + 9)] = bad;
            if (at == 129) weights[128 * 16 + 9] = bad;  // 3.3e38 twice overflows
            if (at != 129 && bad == 3.3e38f) weights[static_cast<std::size_t>((at + 1) * 16 + 9)] = bad;
            on_each_isa([&](const Kernels& kernels) {
                Panel panel(130);
                EXPECT_FALSE(int8(kernels).pack({weights.data(), 130, panel.q.data(), panel.scales.data()}))
                    << bad << at;
            });
        }
    }
}

}  // namespace
}  // namespace pygpt::test
