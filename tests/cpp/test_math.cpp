// exp, erf and the activations against long double, and all instruction sets against each other.
#include <cstdint>
#include <functional>
#include <limits>

#include "support.h"

namespace pygpt::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kMax = std::numeric_limits<float>::max();

using Row = void (*)(const float*, float*, std::ptrdiff_t);

// Every 509th float32 of [0, limit], which is 2^20 to 2^22 of them, with its negative; an eighth of them where tests
// are slow.
std::vector<float> dense_sample(float limit) {
    std::vector<float> out;
    for (std::uint32_t bits = 0; bits <= float_bits(limit); bits += kSlow ? 4093 : 509) {
        out.push_back(bits_float(bits));
        out.push_back(-bits_float(bits));
    }
    return out;
}

std::vector<float> mapped(Row f, const std::vector<float>& x) {
    std::vector<float> y(x.size());
    f(x.data(), y.data(), static_cast<std::ptrdiff_t>(x.size()));
    return y;
}

std::vector<float> mapped(const Kernels& kernels, Activation f, std::vector<float> x) {
    kernels.activate(f, x.data(), static_cast<std::ptrdiff_t>(x.size()));
    return x;
}

float one(Row f, float x) {
    f(&x, &x, 1);
    return x;
}

// The largest error in ulp, and where.
void expect_within(double bound, const std::vector<float>& x, const std::vector<float>& y,
                   long double (*exact)(long double)) {
    double worst = 0.0;
    float where = 0.0f;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double error = ulps(y[i], exact(static_cast<long double>(x[i])));
        if (!(error <= worst)) {
            worst = error;
            where = x[i];
        }
    }
    testing::Test::RecordProperty("largest_error_in_ulp", std::to_string(worst));
    EXPECT_LE(worst, bound) << "at " << std::hexfloat << where;
}

long double exact_exp(long double x) { return std::exp(x); }
long double exact_erf(long double x) { return std::erf(x); }

// Over all float32s the largest errors are 1.0086 and 2.7624 ulp; where they occur is part of each sample.
TEST(Exp, IsWithinItsBound) {
    std::vector<float> x = dense_sample(88.7228f);
    x.push_back(-0x1.b610fp+4f);
    std::erase_if(x, [](float v) { return v < -86.5f; });
    expect_within(1.01, x, mapped(scalar_kernels().exp, x), exact_exp);
}

TEST(Exp, KeepsItsValuesAtTheEnds) {
    on_each_isa([](const Kernels& k) {
        EXPECT_EQ(one(k.exp, 0.0f), 1.0f);
        EXPECT_EQ(one(k.exp, -0.0f), 1.0f);
        EXPECT_EQ(one(k.exp, -kInf), 0.0f);
        EXPECT_EQ(one(k.exp, -kMax), 0.0f);
        EXPECT_EQ(one(k.exp, std::nextafter(-86.5f, -kInf)), 0.0f);
        EXPECT_GT(one(k.exp, -86.5f), 0.0f);
        EXPECT_LT(one(k.exp, 0x1.62e42ep+6f), kInf);  // the largest float32 below log(2^128)
        EXPECT_EQ(one(k.exp, 88.73f), kInf);
        EXPECT_EQ(one(k.exp, kMax), kInf);
        EXPECT_EQ(one(k.exp, kInf), kInf);
    });
}

TEST(Erf, IsWithinItsBound) {
    std::vector<float> x = dense_sample(4.5f);
    x.push_back(0x1.e861fap-2f);
    expect_within(2.8, x, mapped(scalar_kernels().erf, x), exact_erf);
}

TEST(Erf, IsOddAndReachesOne) {
    const std::vector<float> x = dense_sample(4.5f), y = mapped(scalar_kernels().erf, x);
    for (std::size_t i = 0; i < y.size(); i += 2)
        ASSERT_EQ(float_bits(y[i]) ^ 0x80000000u, float_bits(y[i + 1])) << x[i];
    on_each_isa([](const Kernels& k) {
        for (const float big : {4.0f, 10.0f, 1e20f, kMax, kInf}) {
            EXPECT_EQ(one(k.erf, big), 1.0f);
            EXPECT_EQ(one(k.erf, -big), -1.0f);
        }
        EXPECT_TRUE(same(one(k.erf, -0.0f), -0.0f));
    });
}

// A NaN that a file holds may carry any payload: the trick with the exponent field must not make a number of it.
TEST(Math, NansStayNans) {
    on_each_isa([](const Kernels& k) {
        for (const std::uint32_t bits :
             {0x7fc00000u, 0xffc00000u, 0x7fc00001u, 0x7f800001u, 0x7fffffffu, 0xffffffffu}) {
            const float nan = bits_float(bits);
            EXPECT_TRUE(std::isnan(one(k.exp, nan))) << std::hex << bits;
            EXPECT_TRUE(std::isnan(one(k.erf, nan))) << std::hex << bits;
            for (const Activation f : kActivations) {
                EXPECT_TRUE(std::isnan(mapped(k, f, {nan})[0])) << std::hex << bits << " " << static_cast<int>(f);
            }
        }
    });
}

TEST(Math, EveryInstructionSetGivesTheSameBits) {
    std::vector<float> x;
    for (std::uint64_t bits = 0; bits < std::uint64_t{1} << 32; bits += 7919)
        x.push_back(bits_float(static_cast<std::uint32_t>(bits)));
    const std::vector<float> exp = mapped(scalar_kernels().exp, x), erf = mapped(scalar_kernels().erf, x);
    on_each_isa([&](const Kernels& k) {
        EXPECT_TRUE(same_bits(mapped(k.exp, x), exp));
        EXPECT_TRUE(same_bits(mapped(k.erf, x), erf));
        for (const Activation f : kActivations) {
            EXPECT_TRUE(same_bits(mapped(k, f, x), mapped(scalar_kernels(), f, x))) << static_cast<int>(f);
        }
    });
}

// |found - exact| <= bound(x) for a dense sample.
void expect_close(Activation f, const std::function<long double(long double)>& exact,
                  const std::function<double(double x, double y)>& bound) {
    const std::vector<float> x = dense_sample(200.0f), found = mapped(scalar_kernels(), f, x);
    for (std::size_t i = 0; i < x.size(); i += 7) {
        const long double y = exact(static_cast<long double>(x[i]));
        const double error = static_cast<double>(std::abs(static_cast<long double>(found[i]) - y));
        ASSERT_LE(error, bound(static_cast<double>(x[i]), static_cast<double>(y))) << std::hexfloat << x[i];
    }
}

// x / 2 (1 + erf(x / sqrt 2)): the argument carries two roundings, which erf passes on at 0.48 of their size at most;
// erf adds 3 ulp, which are 3 eps; the sum rounds by eps, and so does each of two products. In all below 6 eps of x
// / 2.
TEST(Activations, Gelu) {
    expect_close(
        Activation::gelu, [](long double x) { return x / 2 * std::erfc(-x / std::sqrt(2.0L)); },
        [](double x, double y) { return kEps * (3 * std::abs(x) + 2 * std::abs(y)) + 0x1p-148; });
}

// x / (1 + e^v): v = -2u carries five roundings of its own size, exp turns them into that many times |v|, relative, and
// adds 1 ulp, which is 2 eps; the sum, the quotient and e^v itself add one each. Where e^v overflows the result is 0
// instead of less than 2^-120.
TEST(Activations, GeluTanh) {
    const auto v_of = [](long double x) { return -2 * std::sqrt(2 / std::acos(-1.0L)) * (x + 0.044715L * x * x * x); };
    expect_close(
        Activation::gelu_tanh, [&](long double x) { return x / (1 + std::exp(v_of(x))); },
        [&](double x, double y) {
            const double v = std::abs(static_cast<double>(v_of(static_cast<long double>(x))));
            return kEps * std::abs(y) * (5 * std::min(v, 200.0) + 6) + 0x1p-120;
        });
}

// x / (1 + e^-x): 2 eps from exp, one from the sum, one from the quotient.
TEST(Activations, Silu) {
    expect_close(
        Activation::silu, [](long double x) { return x / (1 + std::exp(-x)); },
        [](double, double y) { return 5 * kEps * std::abs(y) + 0x1p-120; });
}

// As silu, of a product that rounds once: exp turns its eps into 1.702 |x|, relative; no more than 0.28 of the result
// above 0, as the gate is then open by so much more than e^-1.702x.
TEST(Activations, SwigluClamped) {
    const auto gate = [](long double x) { return std::min(x, 7.0L); };
    expect_close(
        Activation::swiglu_clamped, [&](long double x) { return gate(x) / (1 + std::exp(-1.702L * gate(x))); },
        [](double x, double y) {
            return kEps * std::abs(y) * (6 + 2 * 1.702 * std::abs(std::min(x, 7.0))) + 0x1p-120;
        });
}

// cap tanh(x / cap): the division's two roundings, exp's fraction, a sum, a difference, a quotient and a product. Where
// x / cap has fewer digits than x, so has the result.
TEST(Math, CappedIsWithinItsBound) {
    const float cap = 30.0f;
    std::vector<float> x = dense_sample(400.0f);
    std::erase_if(x, [](float v) { return std::abs(v) < 0x1p-120f; });
    std::vector<float> y = x;
    scalar_kernels().scale_and_cap(y.data(), 1.0f, cap, static_cast<std::ptrdiff_t>(y.size()));
    expect_within(4.5, x, y, [](long double v) { return 30 * std::tanh(v / 30); });
}

TEST(Activations, Relu) {
    const std::vector<float> x = dense_sample(200.0f), y = mapped(scalar_kernels(), Activation::relu, x);
    for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(y[i], x[i] > 0 ? x[i] : 0.0f);
}

}  // namespace
}  // namespace pygpt::test
