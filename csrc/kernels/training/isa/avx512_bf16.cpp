// Products of bfloat16 factors in AVX-512's vectors, for training.
#include "kernels/training/isa/pack_bf16.h"

namespace pygpt {

namespace {

constexpr int kRows = 8, kPanels = 3;  // of a tile: 24 sums, beside three vectors of B and a value of A

// Rows row ... row + kRows - 1, of which those that exist are stored, and `panels` panels from `column` on. Both
// factors are panels [k / 2][16][2].
template <int panels>
void tile(const MatmulArgs& m, int row, int column) {
    const int pairs = ceil_div(m.k, kStep) * (kStep / 2);
    const std::ptrdiff_t panel = std::ptrdiff_t{pairs} * 32;
    const BFloat16* a = static_cast<const BFloat16*>(m.a) + row / 16 * panel + row % 16 * 2;
    const BFloat16* b = static_cast<const BFloat16*>(m.b) + column / 16 * panel;
    float* const c = m.c + row * m.ldc + column;
    const int rows = m.rows - row, columns = m.n - column;
    S::F32 sums[kRows][panels];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) {
            sums[r][p] = m.add && r < rows ? S::load_n(c + r * m.ldc + p * 16, columns - p * 16) : S::zero();
        }
    }
    for (int i = 0; i < pairs; ++i, a += 32, b += 32) {
        S::Pairs w[panels];
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) w[p] = {_mm512_loadu_si512(b + p * panel)};
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
            const S::Pairs x = S::set1(BFloat16Pair{a[2 * r], a[2 * r + 1]});
#pragma GCC unroll 16
            for (int p = 0; p < panels; ++p) sums[r][p] = S::fma(x, w[p], sums[r][p]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) {
            if (r >= rows) continue;
            const int lanes = columns - p * 16;
            const S::F32 bias = m.bias == nullptr ? S::zero() : S::load_n(m.bias + column + p * 16, lanes);
            S::store_n(c + r * m.ldc + p * 16, S::add(sums[r][p], bias), lanes);
        }
    }
}

void multiply(const MatmulArgs& args) {
    const MatmulArgs m = args;  // that no store can change
    const int panels = ceil_div(m.n, 16), groups = ceil_div(panels, kPanels);
    for (int row = 0; row < m.rows; row += 16) {
        for (int g = 0; g < groups; ++g) {
            const int first = part_begin(g, groups, panels), count = part_begin(g + 1, groups, panels) - first;
            for (int r = row; r < m.rows && r < row + 16; r += kRows) {
                count == 3   ? tile<3>(m, r, 16 * first)
                : count == 2 ? tile<2>(m, r, 16 * first)
                             : tile<1>(m, r, 16 * first);
            }
        }
    }
}

}  // namespace

extern const MatmulFormat kAvx512Bf16Matmul;
constinit const MatmulFormat kAvx512Bf16Matmul = {pack_bf16<true>, pack_bf16<true>, multiply, kBf16Step,
                                                  sizeof(BFloat16)};

}  // namespace pygpt
