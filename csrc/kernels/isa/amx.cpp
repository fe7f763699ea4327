// The int8 product on AMX tiles for many rows; few rows are left to AVX-512 VNNI.
#include "simd/amx.h"
#include "kernels/body/linear_int8.h"
#include "simd/avx512vnni.h"

namespace pygpt {

namespace {

using S = Avx512Vnni;

// Up to this many rows the vector instructions are as fast: a tile has 16.
constexpr int kFewRows = 8;

// 16 * row_tiles rows times panels of 16 channels, both 1 or 2. The sums are in the tiles 2 * (row tile) + panel, the
// rows in 4 and 5, the weights in 6 and 7. While the tiles multiply one group, the vector units scale and add the sums
// of the group before it, a slice after each tile product.
template <int row_tiles, int panels>
class Block {
public:
    Block(const LinearArgs& args, int first_row, int panel)
        : a_(args),
          first_(first_row),
          panel_(panel),
          groups_(int8_groups(args.k)),
          stride_(static_cast<std::ptrdiff_t>(padded_inputs(args.k)) * 16),
          weights_(static_cast<const std::int8_t*>(args.panels) + panel * stride_),
          rows_(args.quantized.q + first_row * args.quantized.ld),
          row_scales_(args.quantized.scales + first_row) {}

    void run() {
        Sums sums{};
        for (int g = 0; g < groups_; ++g) {
            const bool half = int8_group_size(a_.k - g * kInt8Group) == kInt8Half;
            if (g == 0) {
                half ? group<1, Before::nothing>(g, sums) : group<2, Before::nothing>(g, sums);
            } else if (g == 1) {
                half ? group<1, Before::first>(g, sums) : group<2, Before::first>(g, sums);
            } else {
                half ? group<1, Before::later>(g, sums) : group<2, Before::later>(g, sums);
            }
            sums.of = sums_[g & 1];
            sums.row_scales = row_scales_ + g * a_.quantized.ldg;
            for (int p = 0; p < panels; ++p) {
                sums.scales[p] = S::load(a_.scales + (static_cast<std::ptrdiff_t>(panel_ + p) * groups_ + g) * 16);
            }
        }
        finish(sums);
    }

private:
    static constexpr int kRows = 16 * row_tiles;

    // The group before the one that the tiles are at.
    enum class Before { nothing, first, later };

    // A group's sums of products, and their scales.
    struct Sums {
        const std::int32_t (*of)[256];
        const float* row_scales;
        S::F32 scales[panels];

        // Row i of panel p, scaled and added to `so_far`.
        S::F32 added(int i, int p, S::F32 so_far) const {
            const S::I32 sum{_mm512_load_si512(of[i / 16 * 2 + p] + i % 16 * 16)};
            return S::fma(S::mul(S::to_f32(sum), scales[p]), S::set1(row_scales[i]), so_far);
        }
    };

    template <Before before, int from, int to>
    inline __attribute__((always_inline)) void add(const Sums& sums) {
        if constexpr (before != Before::nothing) {
#pragma GCC unroll 8
            for (int i = from; i < to; ++i) {
#pragma GCC unroll 2
                for (int p = 0; p < panels; ++p) {
                    S::store(acc_[i][p], sums.added(i, p, before == Before::first ? S::zero() : S::load(acc_[i][p])));
                }
            }
        }
    }

    template <int tile, bool last>
    inline __attribute__((always_inline)) void multiply(int g) {
        // The tiles' names have to be literals.
        std::int32_t* sums = sums_[g & 1][tile];
        if constexpr (tile == 0) _tile_dpbssd(0, 4, 6);
        if constexpr (tile == 1) _tile_dpbssd(1, 4, 7);
        if constexpr (tile == 2) _tile_dpbssd(2, 5, 6);
        if constexpr (tile == 3) _tile_dpbssd(3, 5, 7);
        if constexpr (last && tile == 0) _tile_stored(0, sums, 64);
        if constexpr (last && tile == 1) _tile_stored(1, sums, 64);
        if constexpr (last && tile == 2) _tile_stored(2, sums, 64);
        if constexpr (last && tile == 3) _tile_stored(3, sums, 64);
    }

    // 64 inputs of group g; `add_rows` rows of the group before, from row `from` on, after each of the tile products.
    template <Before before, bool last, int from, int add_rows>
    inline __attribute__((always_inline)) void step(int g, int input, const Sums& sums) {
        const std::ptrdiff_t ld = a_.quantized.ld;
        const std::int8_t* w = weights_ + input * 16;
        const std::int8_t* x = rows_ + input;
        _tile_loadd(4, x, ld);
        _tile_loadd(6, w, 64);
        multiply<0, last>(g);
        add<before, from, from + add_rows>(sums);
        if constexpr (panels == 2) {
            _tile_loadd(7, w + stride_, 64);
            multiply<1, last>(g);
            add<before, from + add_rows, from + 2 * add_rows>(sums);
        }
        if constexpr (row_tiles == 2) {
            _tile_loadd(5, x + 16 * ld, ld);
            multiply<2, last>(g);
            add<before, from + panels * add_rows, from + (panels + 1) * add_rows>(sums);
        }
        if constexpr (row_tiles == 2 && panels == 2) {
            multiply<3, last>(g);
            add<before, from + 3 * add_rows, from + 4 * add_rows>(sums);
        }
    }

    template <int steps, Before before>
    inline __attribute__((always_inline)) void group(int g, const Sums& before_sums) {
        constexpr int rows = kRows / (steps * row_tiles * panels);
        const Sums sums = before_sums;  // a copy that nothing else can change stays in registers
        _tile_zero(0);
        if constexpr (panels == 2) _tile_zero(1);
        if constexpr (row_tiles == 2) _tile_zero(2);
        if constexpr (row_tiles == 2 && panels == 2) _tile_zero(3);
        const int input = g * kInt8Group;
        if constexpr (steps == 2) {
            step<before, false, 0, rows>(g, input, sums);
            step<before, true, rows * row_tiles * panels, rows>(g, input + 64, sums);
        } else {
            step<before, true, 0, rows>(g, input, sums);
        }
    }

    // Adds the last group and writes y.
    void finish(const Sums& sums) const {
        const int rows = a_.rows - first_ < kRows ? a_.rows - first_ : kRows;
        for (int p = 0; p < panels; ++p) {
            const int channel = (panel_ + p) * 16;
            const int lanes = a_.n - channel < 16 ? a_.n - channel : 16;
            const auto bias = a_.bias != nullptr ? S::load(a_.bias + channel) : S::zero();
            float* y = a_.y + first_ * a_.ldy + (channel - a_.panel_begin * 16);
            for (int i = 0; i < rows; ++i) {
                const auto sum = sums.added(i, p, groups_ == 1 ? S::zero() : S::load(acc_[i][p]));
                S::store_n(y + i * a_.ldy, a_.bias != nullptr ? S::add(sum, bias) : sum, lanes);
            }
        }
    }

    const LinearArgs& a_;
    const int first_, panel_, groups_;
    const std::ptrdiff_t stride_;  // bytes from one panel to the next
    const std::int8_t* const weights_;
    const std::int8_t* const rows_;
    const float* const row_scales_;
    alignas(64) std::int32_t sums_[2][4][256];
    alignas(64) float acc_[kRows][panels][16];
};

template <int panels>
void panel_columns(const LinearArgs& a, int panel) {
    int row = 0;
    for (; row + 16 < a.rows; row += 32) Block<2, panels>(a, row, panel).run();
    if (row < a.rows) Block<1, panels>(a, row, panel).run();
}

}  // namespace

void linear_int8_amx(const LinearArgs& args);
void linear_int8_amx(const LinearArgs& a) {
    if (a.rows <= kFewRows) return linear_int8<S>(a);
    const TileScope tiles;
    int panel = a.panel_begin;
    for (; panel + 2 <= a.panel_end; panel += 2) panel_columns<2>(a, panel);
    if (panel < a.panel_end) panel_columns<1>(a, panel);
}

}  // namespace pygpt
