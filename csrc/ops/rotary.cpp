#include "ops/rotary.h"

#include <cmath>
#include <cstddef>

namespace pygpt {

namespace {

struct SinCos {
    double sin, cos;
};

// Taylor series on [-pi/4, pi/4]: the first terms left out are below 1e-16. The C library is not used because its last
// bit differs between machines.
SinCos sin_cos(double x) {
    constexpr double kTwoOverPi = 0.63661977236758134308;
    constexpr double kHalfPiHigh = 0x1.921fb544p+0;  // 33 bits: times a quadrant below 2^20 it is exact
    constexpr double kHalfPiLow = 6.07710050650619224932e-11;
    const double quadrant = std::nearbyint(x * kTwoOverPi);
    const double r = (x - quadrant * kHalfPiHigh) - quadrant * kHalfPiLow;
    const double t = r * r;
    double s = 1.0, c = 1.0;
    for (int i = 17; i >= 3; i -= 2) s = 1.0 - t / (i * (i - 1.0)) * s;
    for (int i = 18; i >= 2; i -= 2) c = 1.0 - t / (i * (i - 1.0)) * c;
    const double sin_r = r * s, cos_r = c;
    switch (static_cast<int>(static_cast<long long>(quadrant) & 3)) {
        case 0:
            return {sin_r, cos_r};
        case 1:
            return {cos_r, -sin_r};
        case 2:
            return {-sin_r, -cos_r};
        default:
            return {-cos_r, sin_r};
    }
}

}  // namespace

void rotary_table(int position, std::span<const double> inv_freq, double factor, float* cos, float* sin) {
    for (std::size_t i = 0; i < inv_freq.size(); ++i) {
        const SinCos both = sin_cos(position * inv_freq[i]);
        cos[i] = static_cast<float>(both.cos * factor);
        sin[i] = static_cast<float>(both.sin * factor);
    }
}

}  // namespace pygpt
