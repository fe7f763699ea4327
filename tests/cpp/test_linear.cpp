// Matrix products: the kernels against a chain of fused multiply-adds, and the operation that splits them over threads.
#include <atomic>
#include <limits>
#include <mutex>
#include <string>

#include "base/lanes.h"
#include "ops/linear.h"
#include "packing/matrix.h"
#include "support.h"

namespace pygpt::test {
namespace {

// A product with weights in both formats. Between the rows of x stand NaNs, which nobody may read into a result.
struct Problem {
    int rows, n, k;
    std::ptrdiff_t ldx = k + 3;
    int panels = ceil_div(n, 16);
    std::vector<float> x, weights, bias, packed;
    std::vector<BFloat16> packed_bf16;

    Problem(int rows_, int n_, int k_, unsigned seed) : rows(rows_), n(n_), k(k_) {
        Random random(seed);
        x.assign(static_cast<std::size_t>(rows == 0 ? 0 : (rows - 1) * ldx + k),
                 std::numeric_limits<float>::quiet_NaN());
        for (int row = 0; row < rows; ++row) {
            for (int i = 0; i < k; ++i) x.data()[row * ldx + i] = random.uniform(-1.0f, 1.0f);
        }
        weights = random.floats(static_cast<std::ptrdiff_t>(n) * k);
        bias.assign(static_cast<std::size_t>(panels) * 16, 0.0f);
        for (int i = 0; i < n; ++i) bias.data()[i] = random.uniform(-1.0f, 1.0f);
        pack();
    }

    // [n / 16][k][16], written from its description.
    void pack() {
        packed.assign(static_cast<std::size_t>(panels * 16) * static_cast<std::size_t>(k), 0.0f);
        packed_bf16.assign(packed.size(), BFloat16{0});
        for (int c = 0; c < n; ++c) {
            for (int i = 0; i < k; ++i) {
                const std::ptrdiff_t at = (static_cast<std::ptrdiff_t>(c / 16) * k + i) * 16 + c % 16;
                packed.data()[at] = weights.data()[static_cast<std::ptrdiff_t>(c) * k + i];
                packed_bf16.data()[at] = to_bfloat16(packed.data()[at]);
            }
        }
    }

    Guarded expected(bool bf16, bool with_bias, int panel_begin, int panel_end) const {
        Guarded y(rows, n, n + 7);
        for (int row = 0; row < rows; ++row) {
            for (int c = 16 * panel_begin; c < std::min(n, 16 * panel_end); ++c) {
                float sum = 0.0f;
                for (int i = 0; i < k; ++i) {
                    const float w = weights.data()[static_cast<std::ptrdiff_t>(c) * k + i];
                    sum = std::fma(x.data()[row * ldx + i], bf16 ? to_float(to_bfloat16(w)) : w, sum);
                }
                y.row(row)[c] = with_bias ? sum + bias.data()[c] : sum;
            }
        }
        return y;
    }

    Guarded run(const Kernels& kernels, bool bf16, bool with_bias, int panel_begin, int panel_end) const {
        Guarded y(rows, n, n + 7);
        const void* w = bf16 ? static_cast<const void*>(packed_bf16.data()) : packed.data();
        kernels.format(bf16 ? DType::bf16 : DType::f32)
            .multiply({x.data(),
                       ldx,
                       {},
                       rows,
                       k,
                       w,
                       nullptr,
                       with_bias ? bias.data() : nullptr,
                       y.row(0) + 16 * panel_begin,
                       y.ld(),
                       n,
                       panel_begin,
                       panel_end});
        EXPECT_TRUE(y.intact(16 * panel_begin, std::min(n, 16 * panel_end)));
        return y;
    }

    void check(int panel_begin, int panel_end) const {
        for (const bool bf16 : {false, true}) {
            const bool with_bias = (rows + n + panel_begin) % 3 != 0;
            const Guarded wanted = expected(bf16, with_bias, panel_begin, panel_end);
            on_each_isa([&](const Kernels& kernels) {
                EXPECT_TRUE(same_bits(run(kernels, bf16, with_bias, panel_begin, panel_end).all(), wanted.all()))
                    << rows << " rows, n " << n << ", k " << k << ", panels " << panel_begin << " to " << panel_end
                    << (bf16 ? ", bfloat16" : ", float32");
            });
        }
    }
    void check() const { check(0, panels); }
};

TEST(Linear, IsOneChainOfFusedMultiplyAdds) {
    for (const int rows : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 17, 25}) {
        for (const int n : {1, 16, 33, 130}) Problem(rows, n, 37, 1).check();
    }
    for (const int k : {1, 2, 15, 16, 17, 100}) Problem(7, 50, k, 2).check();
}

TEST(Linear, LongChainsStayWholeAcrossPasses) {
    for (const int rows : {1, 8, 9, 13}) {
        for (const int k : {767, 768, 769, 1537, 3100}) Problem(rows, 21, k, 3).check();
    }
}

TEST(Linear, PanelRangesWriteTheirChannelsOnly) {
    const Problem few(3, 150, 11, 4), many(14, 150, 800, 5);
    for (const Problem* p : {&few, &many}) {
        for (const auto& [begin, end] : {std::pair{0, 1}, {1, 4}, {2, 10}, {9, 10}, {0, 9}, {3, 3}, {10, 10}})
            p->check(begin, end);
    }
}

TEST(Linear, WideMatricesUseEveryTile) {
    for (const int panels : {1, 2, 3, 4, 5, 7, 8, 9, 15, 17}) {
        for (const int rows : {1, 3, 6, 8}) Problem(rows, panels * 16, 9, 6).check();
    }
}

TEST(Linear, UnusualNumbersGoThrough) {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    for (const float special : {1e-40f, -0.0f, 3e38f, kInf, -kInf, std::numeric_limits<float>::quiet_NaN()}) {
        for (const int rows : {1, 2, 9}) {
            Problem p(rows, 20, 12, 7);
            p.x.data()[0] = special;
            p.x.data()[(rows - 1) * p.ldx + 5] = special;
            p.weights.data()[3 * p.k + 5] = special;
            p.weights.data()[19 * p.k + 11] = 1e-39f;
            p.pack();
            p.check();
        }
    }
}

// The operation gives what one call of the kernel gives, however many threads share it, and reports each part once,
// when it is finished.
TEST(Linear, SplitOverThreadsGivesTheSame) {
    struct Case {
        int rows, n, k;
    };
    for (const Case c : {Case{0, 40, 8}, Case{1, 40, 8}, Case{1, 1000, 5}, Case{3, 700, 30}, Case{100, 64, 20},
                         Case{331, 50, 9}, Case{512, 530, 3}, Case{20, 300, 2100}}) {
        for (const bool bf16 : {false, true}) {
            const Problem p(c.rows, c.n, c.k, 8);
            const Kernels& kernels = best_kernels();
            PackedMatrix matrix(c.n, c.k, kernels.format(bf16 ? DType::bf16 : DType::f32));
            with_team(1, [&](Team& t) {
                EXPECT_TRUE(matrix.write({p.weights.data(), DType::f32, c.n, c.k, c.k, 1}, {}, t));
            });
            const Guarded wanted = p.run(kernels, bf16, true, 0, p.panels);
            for (const int count : {1, 2, 3, 7}) {
                Guarded y(c.rows, c.n, c.n + 7);
                std::vector<std::atomic<int>> parts(static_cast<std::size_t>(c.rows * p.panels));
                std::atomic<int> wrong{0};
                const auto after = [&](const LinearPart& part) {
                    if (part.panel_begin % 2 != 0) ++wrong;
                    for (int row = part.row_begin; row < part.row_end; ++row) {
                        for (int panel = part.panel_begin; panel < part.panel_end; ++panel) {
                            ++parts[static_cast<std::size_t>(row * p.panels + panel)];
                        }
                        const float* at = y.row(row) + 16 * part.panel_begin;
                        if (!same(*at, wanted.all().data()[at - y.all().data()])) ++wrong;
                    }
                };
                const LinearCall call{matrix, p.bias.data(), p.x.data(), p.ldx, {}, c.rows, y.row(0), y.ld()};
                with_team(count, [&](Team& team) { linear(team, call, after); });
                EXPECT_TRUE(same_bits(y.all(), wanted.all())) << c.rows << "x" << c.n << "x" << c.k << " on " << count;
                EXPECT_EQ(wrong, 0);
                for (const std::atomic<int>& n : parts) ASSERT_EQ(n, 1);
            }
        }
    }
}

}  // namespace
}  // namespace pygpt::test
