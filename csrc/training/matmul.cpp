#include "training/matmul.h"

#include <algorithm>

#include "base/lanes.h"
#include "threads/parallel.h"

namespace pygpt {

namespace {

// A block of B, which is packed and used up before the next one.
constexpr int kBlockInputs = 768;
constexpr int kBlockPanels = 96;
// Of which a task takes as many panels as leave room for its rows in the second-level cache, in floats.
constexpr int kCachedFloats = 1 << 18;
// Rows of a task at most, in units of 16; less where there would be too few tasks.
constexpr int kRowPanels = 4;
constexpr int kTasksPerThread = 8;
// But so many where A is transposed: rows lie side by side in it, and 16 of them would be a single line of the cache.
constexpr int kSideBySide = 2;
// What a task of packing B takes.
constexpr int kPackPanels = 4;
constexpr int kPackInputs = 256;

// Values of a packed panel.
constexpr std::ptrdiff_t panel_size(int k, int step) { return round_up(std::ptrdiff_t{k}, step) * 16; }

// The part of a factor from (row, column) on.
Factor from(const Factor& f, std::ptrdiff_t row, std::ptrdiff_t column) {
    return {f.data + (f.transposed ? column * f.ld + row : row * f.ld + column), f.ld, f.transposed};
}

}  // namespace

Matmul::Matmul(const MatmulFormat& format, int threads)
    : format_(format),
      panels_(static_cast<std::size_t>(format.bytes) * 16 * kBlockPanels * kBlockInputs),
      rows_(static_cast<std::size_t>(format.bytes * threads) * 16 * kRowPanels * kBlockInputs) {}

std::byte* Matmul::packed_rows(int thread) const {
    return rows_.as<std::byte>() + static_cast<std::ptrdiff_t>(thread) * format_.bytes * 16 * kRowPanels * kBlockInputs;
}

void Matmul::run(Team& team, const MatmulCall& call) {
    if (call.m == 0 || call.n == 0) return;
    const int passes = std::max(1, ceil_div(call.k, kBlockInputs));
    const int blocks = ceil_div(call.n, 16 * kBlockPanels);
    for (int i = 0; i < blocks; ++i) {
        const int column = part_begin(i, blocks, call.n, 16), end = part_begin(i + 1, blocks, call.n, 16);
        for (int pass = 0; pass < passes; ++pass) {
            const int k = part_begin(pass, passes, call.k, format_.step);
            MatmulCall block = call;
            block.a = from(call.a, 0, k);
            block.b = from(call.b, k, column);
            block.c += column;
            block.n = end - column;
            block.k = part_begin(pass + 1, passes, call.k, format_.step) - k;
            block.add = call.add || pass > 0;
            block.bias = call.bias == nullptr || pass < passes - 1 ? nullptr : call.bias + column;
            pack(team, block);
            multiply(team, block);
        }
    }
}

void Matmul::pack(Team& team, const MatmulCall& block) {
    const int n_parts = ceil_div(block.n, 16 * kPackPanels), k_parts = ceil_div(block.k, kPackInputs);
    const std::ptrdiff_t stride = panel_size(block.k, format_.step);
    team.parallel_for(n_parts * k_parts, [&](int task, int) {
        const int column = task / k_parts * 16 * kPackPanels;
        const int k = part_begin(task % k_parts, k_parts, block.k, format_.step);
        const Factor b = from(block.b, k, column);
        format_.pack_b({b.data, b.ld, b.transposed, std::min(16 * kPackPanels, block.n - column),
                        part_begin(task % k_parts + 1, k_parts, block.k, format_.step) - k,
                        panels_.as<std::byte>() + (column / 16 * stride + k * 16) * format_.bytes, stride});
    });
}

void Matmul::multiply(Team& team, const MatmulCall& block) {
    const int panels = ceil_div(block.n, 16), row_panels = ceil_div(block.m, 16);
    const std::ptrdiff_t stride = panel_size(block.k, format_.step);
    const int n_parts = std::max(1, ceil_div(panels * block.k * 16, kCachedFloats));
    const int most = ceil_div(row_panels, block.a.transposed ? kSideBySide : 1);
    const int m_parts =
        std::max(ceil_div(row_panels, kRowPanels), std::min(most, ceil_div(kTasksPerThread * team.size(), n_parts)));
    team.parallel_for(n_parts * m_parts, [&](int task, int thread) {
        const int first_panel = part_begin(task / m_parts, n_parts, panels);
        const int first_row = 16 * part_begin(task % m_parts, m_parts, row_panels);
        const int column = 16 * first_panel, n_end = 16 * part_begin(task / m_parts + 1, n_parts, panels);
        const int m_end = 16 * part_begin(task % m_parts + 1, m_parts, row_panels);
        const int rows = std::min(block.m, m_end) - first_row;
        std::byte* const packed = packed_rows(thread);
        const Factor a = from(block.a, first_row, 0);
        // What runs along the panels of A are its rows.
        format_.pack_a({a.data, a.ld, !a.transposed, rows, block.k, packed, stride});
        format_.multiply({packed, rows, block.k, panels_.as<std::byte>() + first_panel * stride * format_.bytes,
                          std::min(block.n, n_end) - column, block.c + first_row * block.ldc + column, block.ldc,
                          block.add, block.bias == nullptr ? nullptr : block.bias + column});
    });
}

}  // namespace pygpt
