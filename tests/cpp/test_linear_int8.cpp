// int8 products: the kernels against exact sums, and the operation that splits them over threads.
#include <array>
#include <limits>

#include "base/lanes.h"
#include "ops/linear.h"
#include "packing/matrix.h"
#include "support_int8.h"

namespace pygpt::test {
namespace {

// A product of quantised operands, of any values that the format allows.
struct Problem {
    int rows, n, k, panels = ceil_div(n, 16);
    Rows x;
    Aligned<std::int8_t> weights;
    std::vector<BFloat16> scales;
    std::vector<float> bias;

    // `edges`: only -127 and 127, all of the same sign in a group: the largest sums there are.
    Problem(int rows_, int n_, int k_, unsigned seed, bool edges = false)
        : rows(rows_),
          n(n_),
          k(k_),
          x(rows_, k_),
          weights(static_cast<std::ptrdiff_t>(panels) * padded_inputs(k_) * 16),
          scales(static_cast<std::size_t>(panels * int8_groups(k_) * 16)),
          bias(static_cast<std::size_t>(panels) * 16) {
        Random random(seed);
        const auto value = [&] {
            return static_cast<std::int8_t>(edges ? (random.below(16) == 0 ? -127 : 127) : random.below(255) - 127);
        };
        for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(weights.all().size()); ++i)
            weights.data()[i] = value();
        for (BFloat16& s : scales) s = to_bfloat16(random.uniform(1e-4f, 2e-2f));
        for (float& b : bias) b = random.uniform(-1.0f, 1.0f);
        for (int row = 0; row < rows; ++row) {
            for (int g = 0; g < int8_groups(k); ++g) {
                std::int32_t sum = 0;
                for (int i = g * kInt8Group; i < g * kInt8Group + group_size(k, g * kInt8Group); ++i) {
                    sum += x.q.data()[row * x.ld + i] = value();
                }
                x.sum(row, g) = sum;
                x.scale(row, g) = random.below(20) == 0 ? 0.0f : random.uniform(1e-3f, 1.0f);
            }
        }
    }

    Guarded expected(bool with_bias, int panel_begin, int panel_end) {
        Guarded y(rows, n, n + 7);
        for (int row = 0; row < rows; ++row) {
            for (int c = 16 * panel_begin; c < std::min(n, 16 * panel_end); ++c) {
                float sum = 0.0f;
                for (int g = 0; g < x.groups; ++g) {
                    int dot = 0;
                    for (int i = g * kInt8Group; i < g * kInt8Group + group_size(k, g * kInt8Group); ++i) {
                        const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(c / 16) * padded_inputs(k) * 16 +
                                                  i / 4 * 64 + c % 16 * 4 + i % 4;
                        dot += x.q.data()[row * x.ld + i] * weights.data()[at];
                    }
                    const float scale =
                        to_float(scales[static_cast<std::size_t>((c / 16 * x.groups + g) * 16 + c % 16)]);
                    sum = std::fma(static_cast<float>(dot) * scale, x.scale(row, g), sum);
                }
                y.row(row)[c] = with_bias ? sum + bias[static_cast<std::size_t>(c)] : sum;
            }
        }
        return y;
    }

    void check(int panel_begin, int panel_end) {
        const bool with_bias = (rows + n) % 2 == 0;
        const Guarded wanted = expected(with_bias, panel_begin, panel_end);
        on_each_isa([&](const Kernels& kernels) {
            Guarded y(rows, n, n + 7);
            int8(kernels).multiply({nullptr, 0, x.view(), rows, k, weights.data(), scales.data(),
                                    with_bias ? bias.data() : nullptr, y.row(0) + 16 * panel_begin, y.ld(), n,
                                    panel_begin, panel_end});
            EXPECT_TRUE(same_bits(y.all(), wanted.all()))
                << rows << " rows, n " << n << ", k " << k << ", panels " << panel_begin << " to " << panel_end;
        });
    }
    void check() { check(0, panels); }
};

TEST(LinearInt8, ProductsAreExactInEachGroup) {
    for (const int rows : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 49, 70}) {
        for (const int n : {1, 16, 33, 100}) Problem(rows, n, 200, 10).check();
    }
    for (const int k : {1, 4, 63, 64, 65, 128, 129, 192, 193, 320, 576, 700}) {
        for (const int rows : {1, 5, 20, 40}) Problem(rows, 50, k, 11).check();
    }
}

// Every height of a tile with every width, alone and beside another height; and more rows than a block takes.
TEST(LinearInt8, TilesOfEveryShape) {
    for (int rows = 1; rows <= 27; ++rows) {
        for (const int n : {16, 40, 64, 130}) Problem(rows, n, 192, 18).check();
    }
    for (const int rows : {127, 128, 129, 143, 192, 256, 257, 384}) {
        for (const int n : {32, 57}) Problem(rows, n, 320, 19).check();
    }
}

TEST(LinearInt8, ProductsAtTheEdgesDoNotSaturate) {
    for (const int rows : {1, 3, 8, 40, 130}) Problem(rows, 40, 256, 12, true).check();
}

TEST(LinearInt8, PanelRangesWriteTheirChannelsOnly) {
    for (const int rows : {1, 8, 33}) {
        Problem p(rows, 150, 130, 13);
        for (const auto& [begin, end] : {std::pair{0, 1}, {1, 4}, {2, 10}, {9, 10}, {3, 3}, {10, 10}})
            p.check(begin, end);
    }
    for (const int panels : {1, 2, 3, 4, 5, 7, 8, 9, 15, 17}) {
        for (const int rows : {1, 2, 6, 12}) Problem(rows, panels * 16, 64, 14).check();
    }
}

TEST(LinearInt8, AnUnusableGroupMakesItsRowNaNOnly) {
    for (const int rows : {1, 4, 20}) {
        Problem p(rows, 40, 200, 15);
        p.x.scale(rows - 1, 0) = std::numeric_limits<float>::quiet_NaN();
        p.check();
        EXPECT_TRUE(std::isnan(p.expected(false, 0, 3).row(rows - 1)[0]));
    }
}

// Whole matrices: what is packed and quantised multiplies like the floats, within what rounding to int8 may change.
TEST(LinearInt8, MatricesMultiplyLikeTheirFloats) {
    for (const auto& [rows, n, k] : {std::array{1, 40, 100}, {3, 700, 64}, {40, 65, 300}, {150, 530, 130}}) {
        Random random(16);
        const std::vector<float> weights = random.floats(n * k), x = random.floats(rows * k);
        for (const bool transposed : {false, true}) {
            PackedMatrix matrix(n, k, int8(best_kernels()));
            const Plain plain{weights.data(), DType::f32, n, k, transposed ? 1 : k, transposed ? n : 1};
            const auto weight = [&, n = n, k = k](int c, int i) {
                return weights[static_cast<std::size_t>(transposed ? i * n + c : c * k + i)];
            };
            with_team(2, [&](Team& team) { EXPECT_TRUE(matrix.write(plain, {}, team)); });
            std::vector<float> row(static_cast<std::size_t>(k));
            for (int c = 0; c < n; c += 7) {
                matrix.read_row(c, row.data());
                // a rotated value is off by half a step of at most (sum |w|) / 127; rotated back, errors add as squares
                for (int i = 0; i < k; ++i) ASSERT_NEAR(row[static_cast<std::size_t>(i)], weight(c, i), 0.05);
            }
            Rows quantized(rows, k);
            for (int r = 0; r < rows; ++r) int8(best_kernels()).prepare(x.data() + r * k, k, quantized.view().at(r, 0));
            std::vector<float> first;
            for (const int count : {1, 2, 3, 7}) {
                Guarded y(rows, n, n + 7);
                const LinearCall call{matrix, nullptr, nullptr, 0, quantized.view(), rows, y.row(0), y.ld()};
                with_team(count, [&](Team& team) { linear(team, call); });
                EXPECT_TRUE(y.intact());
                if (first.empty()) first.assign(y.all().begin(), y.all().end());
                EXPECT_TRUE(same_bits(y.all(), first)) << count << " threads";
                double worst = 0.0;
                for (int r = 0; r < rows; r += 3) {
                    for (int c = 0; c < n; c += 5) {
                        double exact = 0.0;
                        for (int i = 0; i < k; ++i)
                            exact += static_cast<double>(x[static_cast<std::size_t>(r * k + i)]) * weight(c, i);
                        worst = std::max(worst, std::abs(y.row(r)[c] - exact));
                    }
                }
                // The error of each factor is about 1/127 of 0.58 (uniform) times sqrt(7.7 / 3 / 4) in each of k terms.
                EXPECT_LT(worst, 6 * std::sqrt(2.0 * k) * 0.58 * 0.58 * 0.8 * 2.8 / 127);
            }
        }
    }
}

// Products without a y hand every result out once, in parts that are whole groups of a following input, whatever runs
// beside them.
TEST(LinearInt8, ConsumedPartsAreTheWholeProduct) {
    for (const auto& [rows, n, k] :
         {std::array{1, 40, 64}, {1, 3000, 64}, {9, 800, 64}, {10, 800, 64}, {150, 530, 64}, {500, 300, 64}}) {
        Random random(17);
        const std::vector<float> weights = random.floats(n * k), x = random.floats(rows * k);
        PackedMatrix matrix(n, k, int8(best_kernels()));
        const Plain plain{weights.data(), DType::f32, n, k, k, 1};
        with_team(1, [&](Team& team) { EXPECT_TRUE(matrix.write(plain, {}, team)); });
        Rows quantized(rows, k);
        for (int r = 0; r < rows; ++r) int8(best_kernels()).prepare(x.data() + r * k, k, quantized.view().at(r, 0));
        Guarded wanted(rows, n, n + 7), found(rows, n, n + 7);
        const LinearCall call{matrix, nullptr, nullptr, 0, quantized.view(), rows, wanted.row(0), wanted.ld()};
        with_team(2, [&](Team& team) { linear(team, call); });
        LinearCall consumed = call, none = call;
        consumed.y = nullptr;
        none.rows = 0;
        const std::array calls{none, consumed, call, none};
        // Alone it is also computed in pieces, where there are many threads.
        for (const auto& [several, count] :
             {std::pair{true, 1}, {true, 3}, {false, 1}, {false, 3}, {false, 16}, {false, 32}}) {
            std::fill_n(found.row(0), n, 0.0f);
            std::vector<float> scratch(linear_scratch() * static_cast<std::size_t>(count));
            const std::span<const LinearCall> some =
                several ? std::span<const LinearCall>(calls) : std::span(&consumed, 1);
            const int which = several ? 1 : 0;
            with_team(count, [&, n = n](Team& team) {
                linears(team, some, scratch.data(), [&](int i, const LinearPart& part) {
                    EXPECT_TRUE(i == which || i == 2);
                    if (i != which) return;
                    EXPECT_EQ(part.panel_begin % kPartPanels, 0);
                    const int from = part.panel_begin * 16, to = std::min(n, part.panel_end * 16);
                    for (int r = part.row_begin; r < part.row_end; ++r) {
                        std::copy_n(part.y + (r - part.row_begin) * part.ldy, to - from, found.row(r) + from);
                    }
                });
            });
            EXPECT_TRUE(same_bits(found.all(), wanted.all())) << rows << " x " << n << " on " << count;
        }
    }
}

}  // namespace
}  // namespace pygpt::test
