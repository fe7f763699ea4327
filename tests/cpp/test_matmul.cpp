// Products of any two matrices: the operation against chains of fused multiply-adds and against a product in double.
#include <bit>
#include <cstdint>
#include <limits>
#include <string>

#include "support_training.h"
#include "training/matmul.h"

namespace pygpt::test {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// A (rows, columns) factor as it is stored, with NaNs between its rows that nobody may read into a result.
struct Stored {
    bool transposed;
    std::ptrdiff_t ld;
    std::vector<float> data;

    Stored(int rows, int columns, bool transposed_, Random& random)
        : transposed(transposed_), ld((transposed_ ? rows : columns) + 3) {
        const int stored_rows = transposed ? columns : rows;
        data.assign(static_cast<std::size_t>(stored_rows * ld), kNaN);
        for (int i = 0; i < stored_rows; ++i) {
            for (std::ptrdiff_t j = 0; j < ld - 3; ++j) data.data()[i * ld + j] = random.uniform(-1.0f, 1.0f);
        }
    }

    float at(int row, int column) const { return data.data()[transposed ? column * ld + row : row * ld + column]; }
    Factor factor() const { return {data.data(), ld, transposed}; }
};

struct Problem {
    int m, n, k;
    bool add, with_bias;
    Random random;
    Stored a, b;
    std::vector<float> bias, start;

    Problem(int m_, int n_, int k_, int options, unsigned seed)
        : m(m_),
          n(n_),
          k(k_),
          add((options & 4) != 0),
          with_bias((options & 8) != 0),
          random(seed),
          a(m, k, (options & 1) != 0, random),
          b(k, n, (options & 2) != 0, random),
          bias(random.floats(n)),
          start(random.floats(static_cast<std::ptrdiff_t>(m) * n)) {}

    float start_at(int row, int column) const { return start.data()[static_cast<std::ptrdiff_t>(row) * n + column]; }

    // c before the product.
    Guarded blank() const {
        Guarded c(m, n, n + 5);
        for (int row = 0; row < m; ++row) {
            for (int column = 0; column < n; ++column) c.row(row)[column] = add ? start_at(row, column) : kNaN;
        }
        return c;
    }

    Guarded expected() const {
        Guarded c(m, n, n + 5);
        for (int row = 0; row < m; ++row) {
            for (int column = 0; column < n; ++column) {
                float sum = add ? start_at(row, column) : 0.0f;
                for (int i = 0; i < k; ++i) sum = std::fma(a.at(row, i), b.at(i, column), sum);
                c.row(row)[column] = with_bias ? sum + bias.data()[column] : sum;
            }
        }
        return c;
    }

    Guarded run(Matmul& matmul, Team& team) const {
        Guarded c = blank();
        matmul.run(team, {a.factor(), b.factor(), c.row(0), c.ld(), m, n, k, add, with_bias ? bias.data() : nullptr});
        EXPECT_TRUE(c.intact());
        return c;
    }

    std::string text() const {
        return std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k) +
               (a.transposed ? ", a transposed" : "") + (b.transposed ? ", b transposed" : "") + (add ? ", add" : "") +
               (with_bias ? ", bias" : "");
    }
};

struct Shape {
    int m, n, k;
};

// Every way of storing the factors, of beginning and of ending, on every instruction set.
TEST(Matmul, IsOneChainOfFusedMultiplyAdds) {
    for (const Shape s : {Shape{1, 1, 1}, Shape{0, 5, 3}, Shape{5, 0, 3}, Shape{2, 3, 0}, Shape{16, 16, 16},
                          Shape{17, 33, 15}, Shape{7, 50, 40}, Shape{40, 129, 33}, Shape{33, 15, 65}}) {
        for (int options = 0; options < 16; ++options) {
            const Problem p(s.m, s.n, s.k, options, 1);
            const Guarded wanted = p.expected();
            on_each_training_isa([&](const TrainingKernels& kernels) {
                Matmul matmul(kernels.matmul_f32, 1);
                with_team(1, [&](Team& team) {
                    EXPECT_TRUE(same_bits(p.run(matmul, team).all(), wanted.all())) << p.text();
                });
            });
        }
    }
}

TEST(Matmul, EveryHeightAndWidthOfTiles) {
    Matmul matmul(best_training().matmul_f32, 1);
    for (int m = 1; m <= 18; ++m) {
        for (const int n : {16, 32, 48, 64, 80, 112, 128, 144}) {
            const Problem p(m, n, 9, 4, 2);
            with_team(1, [&](Team& team) {
                EXPECT_TRUE(same_bits(p.run(matmul, team).all(), p.expected().all())) << p.text();
            });
        }
    }
}

// Inputs are walked in passes of up to 768, and columns in blocks of up to 1536.
TEST(Matmul, LongChainsAndWideMatricesStayWhole) {
    for (const Shape s : {Shape{3, 21, 768}, Shape{3, 21, 769}, Shape{20, 17, 2305}, Shape{2, 1536, 5},
                          Shape{1, 1537, 770}, Shape{3, 3100, 7}, Shape{100, 20, 3}}) {
        for (const int options : {0, 2, 9, 13}) {
            const Problem p(s.m, s.n, s.k, options, 3);
            const Guarded wanted = p.expected();
            on_each_training_isa([&](const TrainingKernels& kernels) {
                Matmul matmul(kernels.matmul_f32, 2);
                with_team(2, [&](Team& team) {
                    EXPECT_TRUE(same_bits(p.run(matmul, team).all(), wanted.all())) << p.text();
                });
            });
        }
    }
}

TEST(Matmul, AnyNumberOfThreadsGivesTheSame) {
    for (const Shape s : {Shape{200, 384, 130}, Shape{65, 1000, 40}, Shape{129, 48, 900}}) {
        for (const int options : {2, 8, 5}) {
            const Problem p(s.m, s.n, s.k, options, 4);
            const Guarded wanted = p.expected();
            for (const int count : {1, 2, 3}) {
                Matmul matmul(best_training().matmul_f32, count);
                with_team(count, [&](Team& team) {
                    EXPECT_TRUE(same_bits(p.run(matmul, team).all(), wanted.all())) << p.text() << " on " << count;
                });
            }
        }
    }
}

// A chain of k roundings, each off by at most one part in 2^24 of a partial sum: k eps / (1 - k eps) times the sum of
// the terms' magnitudes (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1).
TEST(Matmul, IsNearTheProductInDouble) {
    for (int options = 0; options < 4; ++options) {
        const Problem p(50, 70, 1000, options, 5);
        Matmul matmul(best_training().matmul_f32, 1);
        with_team(1, [&](Team& team) {
            Guarded c = p.run(matmul, team);
            for (int row = 0; row < p.m; ++row) {
                for (int column = 0; column < p.n; ++column) {
                    double sum = 0.0, size = 0.0;
                    for (int i = 0; i < p.k; ++i) {
                        const double term = static_cast<double>(p.a.at(row, i)) * p.b.at(i, column);
                        sum += term;
                        size += std::abs(term);
                    }
                    ASSERT_NEAR(c.row(row)[column], sum, p.k * kEps / (1.0 - p.k * kEps) * size) << p.text();
                }
            }
        });
    }
}

TEST(Matmul, UnusualNumbersGoThrough) {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    for (const float special : {1e-40f, -0.0f, 3e38f, kInf, -kInf, kNaN}) {
        for (const int options : {0, 7, 12}) {
            Problem p(19, 20, 12, options, 6);
            p.a.data.data()[2] = special;
            p.b.data.data()[p.b.ld + 1] = special;
            p.start.data()[0] = p.bias.data()[1] = special;
            const Guarded wanted = p.expected();
            on_each_training_isa([&](const TrainingKernels& kernels) {
                Matmul matmul(kernels.matmul_f32, 1);
                with_team(1, [&](Team& team) {
                    EXPECT_TRUE(same_bits(p.run(matmul, team).all(), wanted.all())) << p.text() << " " << special;
                });
            });
        }
    }
}

// bfloat16 has 8 bits: to nearest, ties to even. Finite values only.
float rounded(float x) {
    std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
    bits += 0x7fff + ((bits >> 16) & 1);
    return std::bit_cast<float>(bits & 0xffff0000u);
}

// Products of bfloat16 values are exact in float32; each of at most k + 2 additions is off by at most one part in 2^24
// of a partial sum, whichever way the hardware pairs them.
TEST(Matmul, InBfloat16IsTheProductOfRoundedFactors) {
    const TrainingKernels& kernels = best_training();
    if (kernels.matmul_bf16.multiply == nullptr) GTEST_SKIP() << "no bfloat16 here";
    for (const Shape s : {Shape{1, 1, 1}, Shape{0, 5, 3}, Shape{2, 3, 0}, Shape{32, 32, 32}, Shape{17, 33, 31},
                          Shape{16, 48, 33}, Shape{49, 16, 64}, Shape{70, 100, 1700}, Shape{3, 1700, 40}}) {
        for (int options = 0; options < 16; ++options) {
            const Problem p(s.m, s.n, s.k, options, 8);
            const auto on = [&](int count) {
                Matmul matmul(kernels.matmul_bf16, count);
                Guarded c(0, 0, 1);
                with_team(count, [&](Team& team) { c = p.run(matmul, team); });
                return c;
            };
            Guarded found = on(1);
            EXPECT_TRUE(same_bits(found.all(), on(3).all())) << p.text();
            for (int row = 0; row < p.m; ++row) {
                for (int column = 0; column < p.n; ++column) {
                    double sum = p.add ? p.start_at(row, column) : 0.0;
                    if (p.with_bias) sum += p.bias.data()[column];
                    double size = std::abs(sum) + 1.0;
                    for (int i = 0; i < p.k; ++i) {
                        const double term = static_cast<double>(rounded(p.a.at(row, i))) * rounded(p.b.at(i, column));
                        sum += term;
                        size += std::abs(term);
                    }
                    ASSERT_NEAR(found.row(row)[column], sum, (p.k + 2) * kEps * size) << p.text();
                }
            }
        }
    }
}

// One TDPBF16PS as Intel's manual describes it: the even and the odd ones of 32 inputs are two chains of fused
// multiply-adds from zero, which are added to each other and then to c. Subnormal numbers are zeros wherever they go in
// or come out.
float tile_product(const Problem& p, int row, int column, int from, float c) {
    const auto flushed = [](float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; };
    float chains[2] = {0.0f, 0.0f};
    for (int i = from; i < from + kBf16Step; ++i) {
        const float a = i < p.k ? flushed(rounded(p.a.at(row, i))) : 0.0f;
        const float b = i < p.k ? flushed(rounded(p.b.at(i, column))) : 0.0f;
        chains[i % 2] = flushed(std::fma(a, b, chains[i % 2]));
    }
    return flushed(flushed(c) + flushed(chains[0] + chains[1]));
}

// What docs/numeric-contract.md leaves open: whether the instruction does what its manual says, to the bit.
TEST(Matmul, Bfloat16TilesAddEvenAndOddInputsApart) {
    const TrainingKernels& kernels = best_training();
    const MatmulFormat& format = kernels.matmul_bf16;
    const bool has_tiles = format.multiply != nullptr && format.pack_a != format.pack_b;
    if (!has_tiles) GTEST_SKIP() << "no AMX with bfloat16 here";
    for (const Shape s : {Shape{16, 16, 32}, Shape{5, 40, 100}, Shape{33, 17, 700}}) {
        // 2^-63: products around 2^-126, the smallest normal number; 2^-125: inputs around it.
        for (const float scale : {1.0f, 0x1p+30f, 0x1p-63f, 0x1p-125f}) {
            for (const int options : {0, 4}) {
                Problem p(s.m, s.n, s.k, options, 9);
                for (std::vector<float>* values : {&p.a.data, &p.b.data}) {
                    for (float& x : *values) x *= scale;
                }
                Matmul matmul(kernels.matmul_bf16, 1);
                Guarded found(0, 0, 1);
                with_team(1, [&](Team& team) { found = p.run(matmul, team); });
                for (int row = 0; row < p.m; ++row) {
                    for (int column = 0; column < p.n; ++column) {
                        float c = p.add ? p.start_at(row, column) : 0.0f;
                        for (int from = 0; from < p.k; from += kBf16Step) c = tile_product(p, row, column, from, c);
                        ASSERT_TRUE(same(found.row(row)[column], c)) << p.text() << ", scale " << scale;
                    }
                }
            }
        }
    }
}

TEST(Matmul, RowsAreAddedInOrder) {
    for (const int rows : {0, 1, 2, 50}) {
        for (const int n : {1, 15, 16, 64, 65, 200}) {
            Random random(7);
            Guarded x(rows, n, n + 2);
            std::vector<float> wanted = random.floats(n);
            const std::vector<float> start = wanted;
            for (int row = 0; row < rows; ++row) {
                for (int i = 0; i < n; ++i) wanted.data()[i] += x.row(row)[i] = random.uniform(-1.0f, 1.0f);
            }
            on_each_training_isa([&](const TrainingKernels& kernels) {
                Guarded sums(1, n, n);
                std::copy(start.begin(), start.end(), sums.row(0));
                kernels.add_rows(x.row(0), x.ld(), rows, n, sums.row(0));
                EXPECT_TRUE(sums.intact());
                EXPECT_TRUE(same_bits({sums.row(0), static_cast<std::size_t>(n)}, wanted)) << rows << " x " << n;
            });
        }
    }
}

}  // namespace
}  // namespace pygpt::test
