// Cosines and sines of the rotary embedding.
#include "ops/rotary.h"

#include "support.h"

namespace pygpt::test {
namespace {

std::vector<double> frequencies(double theta, int dim) {
    std::vector<double> out;
    for (int i = 0; i < dim / 2; ++i) out.push_back(std::pow(theta, -2.0 * i / dim));
    return out;
}

TEST(Rotary, IsWithinOneUlpOfTheAngle) {
    double worst = 0.0;
    for (const auto& inv_freq : {frequencies(10000.0, 128), frequencies(500000.0, 64), frequencies(3.0, 10)}) {
        std::vector<float> cos(inv_freq.size()), sin(inv_freq.size());
        for (int position = 0; position < 1 << 20; position = position < 3000 ? position + 1 : position + 997) {
            rotary_table(position, inv_freq, 1.0, cos.data(), sin.data());
            for (std::size_t i = 0; i < inv_freq.size(); ++i) {
                const long double angle = position * inv_freq[i];
                worst = std::max({worst, ulps(cos[i], std::cos(angle)), ulps(sin[i], std::sin(angle))});
            }
        }
    }
    RecordProperty("largest_error_in_ulp", std::to_string(worst));
    EXPECT_LE(worst, 1.0);
}

TEST(Rotary, PositionZeroTurnsNothing) {
    const std::vector<double> inv_freq = frequencies(10000.0, 64);
    std::vector<float> cos(32), sin(32);
    rotary_table(0, inv_freq, 1.0, cos.data(), sin.data());
    for (int i = 0; i < 32; ++i) {
        EXPECT_EQ(cos.data()[i], 1.0f);
        EXPECT_TRUE(same(sin.data()[i], 0.0f));
    }
}

TEST(Rotary, AFactorMultipliesBoth) {
    const std::vector<double> inv_freq = frequencies(10000.0, 8);
    std::vector<float> cos(4), sin(4), scaled_cos(4), scaled_sin(4);
    rotary_table(7, inv_freq, 1.0, cos.data(), sin.data());
    rotary_table(7, inv_freq, 2.0, scaled_cos.data(), scaled_sin.data());
    for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_EQ(scaled_cos[i], 2.0f * cos[i]);
        EXPECT_EQ(scaled_sin[i], 2.0f * sin[i]);
    }
}

}  // namespace
}  // namespace pygpt::test
