// How products are dealt out to many threads: the busiest one's share against the mean.
#include <algorithm>
#include <vector>

#include "ops/linear.h"
#include "support.h"

namespace pygpt::test {
namespace {

struct Product {
    const char* name;
    int n, k;
    bool consumed;  // nobody keeps its results: parts of whole groups
};

// Of GPT-2 124M, SmolLM2 135M and Qwen2.5 0.5B.
const std::vector<Product> kProducts = {
    {"GPT-2 qkv", 2304, 768, false},     {"GPT-2 out", 768, 768, false},    {"GPT-2 up", 3072, 768, true},
    {"GPT-2 down", 768, 3072, false},    {"GPT-2 head", 50257, 768, false}, {"SmolLM2 qkv", 960, 576, false},
    {"SmolLM2 out", 576, 576, false},    {"SmolLM2 up", 3072, 576, true},   {"SmolLM2 down", 576, 1536, false},
    {"SmolLM2 head", 49152, 576, false}, {"Qwen qkv", 1152, 896, false},    {"Qwen out", 896, 896, false},
    {"Qwen up", 9728, 896, true},        {"Qwen down", 896, 4864, false},   {"Qwen head", 151936, 896, false},
};

// What each task of a product multiplies, in rows x panels.
std::vector<long long> costs(const LinearPlan& plan, int rows, int panels) {
    std::vector<long long> out;
    const LinearCut& c = plan.cut;
    for (int p = 0; p < c.panel_parts; ++p) {
        for (int i = 0; i < c.row_parts; ++i) {
            const int height =
                part_begin(i + 1, c.row_parts, rows, c.row_step) - part_begin(i, c.row_parts, rows, c.row_step);
            const int width = part_begin(p + 1, c.panel_parts, panels, c.panel_step) -
                              part_begin(p, c.panel_parts, panels, c.panel_step);
            for (int j = 0; j < plan.pieces; ++j) {
                const int some = part_begin(j + 1, plan.pieces, width, 2) - part_begin(j, plan.pieces, width, 2);
                out.push_back(static_cast<long long>(height) * some);
            }
        }
    }
    return out;
}

// The busiest thread's first share, by the mean.
double busiest(const std::vector<long long>& costs, int threads) {
    long long most = 0, all = 0;
    for (int t = 0; t < threads; ++t) {
        long long share = 0;
        const std::size_t n = costs.size(), at = static_cast<std::size_t>(t), of = static_cast<std::size_t>(threads);
        for (std::size_t i = at * n / of; i < (at + 1) * n / of; ++i) share += costs[i];
        most = std::max(most, share);
        all += share;
    }
    return static_cast<double>(most) * threads / static_cast<double>(all);
}

// The same where whole panels, or pairs of them, are dealt out as evenly as can be.
double possible(int panels, int unit, int threads) {
    return static_cast<double>(std::min(panels, ceil_div(ceil_div(panels, unit), threads) * unit)) * threads / panels;
}

TEST(Balance, NoThreadHasMuchMoreThanTheMean) {
    float y = 0.0f;
    for (const DType type : {DType::i8, DType::f32}) {
        const LinearFormat& format = best_kernels().format(type);
        for (const Product& p : kProducts) {
            const bool consumed = p.consumed && format.prepare != nullptr;
            const PackedMatrix weight(p.n, p.k, format);
            for (const int rows : {1, 8, 256, 512}) {
                const LinearCall call{weight, nullptr, nullptr, 0, {}, rows, consumed ? nullptr : &y, p.n};
                for (const int threads : {1, 2, 4, 8, 16, 32}) {
                    const std::vector<long long> all =
                        costs(plan_linear(call, threads, p.consumed), rows, weight.panels());
                    // Many rows can be split as well.
                    const double least = rows > 8 ? 1.0 : possible(weight.panels(), p.consumed ? 2 : 1, threads);
                    EXPECT_LE(busiest(all, threads), std::max(1.25, least) + 1e-9)
                        << p.name << ", " << format.name << ", " << rows << " rows, " << threads << " threads, "
                        << all.size() << " tasks";
                }
            }
        }
    }
}

// One row of weights that fit two threads well is read in the widest stretches.
TEST(Balance, FewThreadsReadWideStretches) {
    float y = 0.0f;
    for (const Product& p : kProducts) {
        const PackedMatrix weight(p.n, p.k, best_kernels().format(DType::i8));
        const LinearCall call{weight, nullptr, nullptr, 0, {}, 1, &y, p.n};
        if (weight.panels() % 16 != 0) continue;
        const LinearPlan plan = plan_linear(call, 2, false);
        EXPECT_EQ(plan.cut.panel_step, 8) << p.name;
        EXPECT_LE(plan.cut.panel_parts, 16) << p.name;
        EXPECT_EQ(plan.pieces, 1) << p.name;
    }
}

}  // namespace
}  // namespace pygpt::test
