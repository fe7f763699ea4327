// The kernels on rows: norms, add, gated activations, rotary embedding, conversion to float16.
#include <array>
#include <functional>
#include <limits>

#include "base/lanes.h"
#include "support.h"

namespace pygpt::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr std::array kLengths = {1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 100, 257};

using Norm = void (*)(const NormArgs&);

struct NormCase {
    int rows, n;
    std::vector<float> x, weight, bias;
    std::ptrdiff_t ldx = n + 5;
    float eps = 1e-5f;

    NormCase(int rows_, int n_, float mean, unsigned seed) : rows(rows_), n(n_) {
        Random random(seed);
        x = random.floats(rows == 0 ? 0 : (rows - 1) * ldx + n, mean - 1.0f, mean + 1.0f);
        weight = random.floats(n, -2.0f, 2.0f);
        bias = random.floats(n);
    }

    Guarded run(Norm norm) const {
        Guarded y(rows, n, n + 3);
        norm({x.data(), ldx, y.row(0), y.ld(), rows, n, weight.data(), bias.data(), eps});
        EXPECT_TRUE(y.intact());
        return y;
    }
};

TEST(Norms, AreTheSameOnEveryInstructionSet) {
    on_each_isa([](const Kernels& k) {
        for (const int n : kLengths) {
            for (const int rows : {0, 1, 3}) {
                const NormCase c(rows, n, 0.3f, static_cast<unsigned>(n));
                EXPECT_TRUE(same_bits(c.run(k.layer_norm).all(), c.run(scalar_kernels().layer_norm).all())) << n;
                EXPECT_TRUE(same_bits(c.run(k.rms_norm).all(), c.run(scalar_kernels().rms_norm).all())) << n;
            }
        }
    });
}

// A sum of n values over 16 lanes rounds each of them n / 16 + 4 times at most. So the mean is off by s = (n / 16 + 5)
// eps of the largest |x|, and each deviation by as much; the mean of squares by 2 s of the largest |x| times the
// deviation's size plus (n / 16 + 8) eps of itself. Scaled, with the remaining roundings, and twice for safety:
TEST(Norms, LayerNormIsRight) {
    for (const float mean : {0.0f, 100.0f}) {
        for (const int n : {2, 33, 768}) {
            const NormCase c(2, n, mean, 3);
            Guarded y = c.run(scalar_kernels().layer_norm);
            for (int row = 0; row < 2; ++row) {
                const float* x = c.x.data() + row * c.ldx;
                double sum = 0, squares = 0, largest = 0;
                for (int i = 0; i < n; ++i) sum += x[i];
                for (int i = 0; i < n; ++i) {
                    squares += (x[i] - sum / n) * (x[i] - sum / n);
                    largest = std::max(largest, std::abs(static_cast<double>(x[i])));
                }
                const double scale = 1 / std::sqrt(squares / n + static_cast<double>(c.eps));
                for (int i = 0; i < n; ++i) {
                    const double normed = (x[i] - sum / n) * scale, w = c.weight.data()[i], b = c.bias.data()[i];
                    const double s = (n / 16.0 + 5) * kEps * largest * scale;
                    const double relative = 2 * s + (n / 16.0 + 16) * kEps;
                    const double bound = 2 * (std::abs(w) * (s + std::abs(normed) * relative) + std::abs(b) * kEps);
                    ASSERT_NEAR(y.row(row)[i], normed * w + b, bound) << n << " " << mean;
                }
            }
        }
    }
}

// Half of the relative error of the mean of squares, (n / 16 + 6) eps, and five further roundings.
TEST(Norms, RmsNormIsRight) {
    for (const int n : {1, 33, 768}) {
        const NormCase c(2, n, 0.5f, 4);
        Guarded y = c.run(scalar_kernels().rms_norm);
        for (int row = 0; row < 2; ++row) {
            const float* x = c.x.data() + row * c.ldx;
            double squares = 0;
            for (int i = 0; i < n; ++i) squares += static_cast<double>(x[i]) * x[i];
            const double scale = 1 / std::sqrt(squares / n + static_cast<double>(c.eps));
            for (int i = 0; i < n; ++i) {
                const double exact = x[i] * scale * c.weight.data()[i];
                ASSERT_NEAR(y.row(row)[i], exact, std::abs(exact) * ((n / 16.0 + 6) / 2 + 5) * kEps) << n;
            }
        }
    }
}

TEST(Norms, AConstantRowGivesTheBias) {
    NormCase c(1, 37, 0.0f, 5);
    std::fill(c.x.begin(), c.x.end(), 0.5f);
    Guarded y = c.run(scalar_kernels().layer_norm);
    for (int i = 0; i < 37; ++i) EXPECT_EQ(y.row(0)[i], c.bias.data()[i]);
}

TEST(Rows, AddTouchesNothingElse) {
    on_each_isa([](const Kernels& k) {
        for (const int n : kLengths) {
            Random random(6);
            const std::vector<float> x = random.floats(n), y = random.floats(n);
            for (const float scale : {1.0f, 0.22f}) {
                Guarded sum(1, n, n);
                std::copy(x.begin(), x.end(), sum.row(0));
                k.add(sum.row(0), y.data(), scale, n);
                for (int i = 0; i < n; ++i) ASSERT_EQ(sum.row(0)[i], std::fma(y.data()[i], scale, x.data()[i]));
                EXPECT_TRUE(sum.intact());
            }
        }
    });
}

TEST(Rows, ScaleAndCapAreTheSameOnEveryInstructionSet) {
    on_each_isa([](const Kernels& k) {
        for (const int n : kLengths) {
            const std::vector<float> x = Random(14).floats(n, -90.0f, 90.0f);
            for (const float cap : {0.0f, 1e-3f, 30.0f, 1e9f}) {
                Guarded y(1, n, n), expected(1, n, n);
                std::copy(x.begin(), x.end(), y.row(0));
                std::copy(x.begin(), x.end(), expected.row(0));
                k.scale_and_cap(y.row(0), 0.7f, cap, n);
                scalar_kernels().scale_and_cap(expected.row(0), 0.7f, cap, n);
                EXPECT_TRUE(same_bits(y.all(), expected.all())) << n << " " << cap;
                EXPECT_TRUE(y.intact());
                for (int i = 0; i < n; ++i) {
                    ASSERT_TRUE(cap == 0.0f ? y.row(0)[i] == x.data()[i] * 0.7f : std::abs(y.row(0)[i]) <= cap);
                }
            }
        }
    });
}

TEST(Rows, ACapKeepsInfinitiesWithinItAndNansAsTheyAre) {
    on_each_isa([](const Kernels& k) {
        std::vector<float> x = {kInf, -kInf, std::numeric_limits<float>::quiet_NaN(), 0.0f, -0.0f, 3e38f};
        k.scale_and_cap(x.data(), 1.0f, 30.0f, 6);
        EXPECT_EQ(x[0], 30.0f);
        EXPECT_EQ(x[1], -30.0f);
        EXPECT_TRUE(std::isnan(x[2]));
        EXPECT_TRUE(same(x[3], 0.0f) && same(x[4], -0.0f));
        EXPECT_EQ(x[5], 30.0f);
    });
}

TEST(Rows, ActivationsKeepToTheirRow) {
    on_each_isa([](const Kernels& k) {
        for (const int n : kLengths) {
            const std::vector<float> x = Random(7).floats(n, -6.0f, 6.0f);
            for (const Activation f : kActivations) {
                Guarded y(1, n, n), expected(1, n, n);
                std::copy(x.begin(), x.end(), y.row(0));
                std::copy(x.begin(), x.end(), expected.row(0));
                k.activate(f, y.row(0), n);
                scalar_kernels().activate(f, expected.row(0), n);
                EXPECT_TRUE(same_bits(y.all(), expected.all())) << n;
                EXPECT_TRUE(y.intact());
            }
        }
    });
}

TEST(Rows, GatedActivationsMultiplyPanels) {
    on_each_isa([](const Kernels& k) {
        for (const int n : kLengths) {
            const int padded = round_up(n, 16);
            const std::vector<float> x = Random(8).floats(2 * padded, -9.0f, 9.0f);
            for (const Activation f : kActivations) {
                std::vector<float> activated = x;
                scalar_kernels().activate(f, activated.data(), 2 * padded);
                Guarded y(1, n, n);
                k.activate_gated(f, x.data(), y.row(0), n);
                for (int i = 0; i < n; ++i) {
                    const int gate = i / 16 * 32 + i % 16;
                    float gated = x.data()[gate + 16];
                    if (f == Activation::swiglu_clamped) gated = std::clamp(gated, -7.0f, 7.0f) + 1.0f;
                    ASSERT_EQ(y.row(0)[i], activated.data()[gate] * gated) << n << " " << i;
                }
                EXPECT_TRUE(y.intact());
            }
        }
    });
}

// Two products and a sum, each rounded: eps (2 |u c| + 2 |v s|) at most.
TEST(Rows, RopeTurnsItsPairs) {
    struct Case {
        int n_heads, head_dim, dim;
        bool interleaved;
    };
    for (const Case c : {Case{1, 2, 2, false}, Case{3, 10, 8, false}, Case{3, 10, 8, true}, Case{2, 64, 64, false},
                         Case{2, 64, 64, true}, Case{1, 130, 130, true}, Case{4, 33, 32, false}}) {
        Random random(9);
        const int half = c.dim / 2;
        const std::vector<float> x = random.floats(c.n_heads * c.head_dim), cos = random.floats(half),
                                 sin = random.floats(half);
        Guarded expected(1, c.n_heads * c.head_dim, c.n_heads * c.head_dim);
        std::copy(x.begin(), x.end(), expected.row(0));
        scalar_kernels().rope({expected.row(0), c.n_heads, c.head_dim, c.dim, c.interleaved, cos.data(), sin.data()});
        for (int head = 0; head < c.n_heads; ++head) {
            const float *before = x.data() + head * c.head_dim, *after = expected.row(0) + head * c.head_dim;
            for (int i = 0; i < half; ++i) {
                const int a = c.interleaved ? 2 * i : i, b = c.interleaved ? 2 * i + 1 : i + half;
                const double u = before[a], v = before[b], cs = cos.data()[i], sn = sin.data()[i];
                ASSERT_NEAR(after[a], u * cs - v * sn, 2 * kEps * (std::abs(u * cs) + std::abs(v * sn)));
                ASSERT_NEAR(after[b], u * sn + v * cs, 2 * kEps * (std::abs(u * sn) + std::abs(v * cs)));
            }
            for (int i = c.dim; i < c.head_dim; ++i) ASSERT_EQ(after[i], before[i]);
        }
        on_each_isa([&](const Kernels& k) {
            Guarded y(1, c.n_heads * c.head_dim, c.n_heads * c.head_dim);
            std::copy(x.begin(), x.end(), y.row(0));
            k.rope({y.row(0), c.n_heads, c.head_dim, c.dim, c.interleaved, cos.data(), sin.data()});
            EXPECT_TRUE(same_bits(y.all(), expected.all()));
        });
    }
}

TEST(ToF16, RoundsAndSaturates) {
    on_each_isa([](const Kernels& k) {
        for (const int n : kLengths) {
            std::vector<float> x = Random(13).floats(n, -70000.0f, 70000.0f);
            const float special[] = {kInf, -kInf, 65504.0f, 65519.9f, -65520.0f, 1e-8f, -0.0f, 3e-5f, 6e-8f};
            for (std::size_t i = 0; i < x.size() && i < std::size(special); ++i) x[x.size() - 1 - i] = special[i];
            std::vector<Half> y(x.size() + 16, Half{0x1234});
            k.to_f16(x.data(), y.data(), n);
            for (std::size_t i = 0; i < x.size(); ++i) {
                ASSERT_EQ(y[i].bits, to_half(std::clamp(x[i], -65504.0f, 65504.0f)).bits) << x[i];
            }
            for (std::size_t i = x.size(); i < y.size(); ++i) ASSERT_EQ(y[i].bits, 0x1234) << "written beyond " << n;
        }
        const float nan = std::numeric_limits<float>::quiet_NaN();
        Half h{0};
        k.to_f16(&nan, &h, 1);
        EXPECT_TRUE(std::isnan(to_float(h)));
    });
}

}  // namespace
}  // namespace pygpt::test
