// The int8 product on AMX tiles for many rows; few rows are left to AVX-512 VNNI.
#include "simd/amx.h"
#include "kernels/body/linear_int8.h"
#include "simd/avx512vnni.h"

namespace pygpt {

namespace {

using S = Avx512Vnni;

// Up to this many rows the vector instructions are as fast: a tile has 16.
constexpr int kFewRows = 8;

// The product of blocks of 16 * row_tiles rows, row_tiles 1 or 2, and 2 panels: the sums are in the tiles
// 2 * (row tile) + panel, the rows in 4 and 5, the weights in 6 and 7.
//
// A group passes through three stages, one for each of three groups in turn: its tiles multiply; as those of the group
// after it start, they are stored, each just before it starts anew, by when its products are done; and while the group
// after that multiplies, the sums are scaled and added, a few rows after each tile product. So memory, tiles and
// vectors work side by side, from block to block.
template <int row_tiles>
class TilePass {
public:
    explicit TilePass(const LinearArgs& args)
        : a_(args), groups_(int8_groups(args.k)), stride_(static_cast<std::ptrdiff_t>(padded_inputs(args.k)) * 16) {}

    // Rows [begin, end) block by block, each against all panels: its rows stay in the cache.
    void run(int begin, int end) {
        for (int row = begin; row < end; row += kRows) {
            for (int panel = a_.panel_begin; panel < a_.panel_end; panel += 2) block(row, end - row, panel);
        }
        // What is left in the tiles and in memory.
        finish(n_);
        store_tiles(sums_[(n_ + 1) & 1]);
        finish(n_ + 1);
    }

private:
    static constexpr int kRows = 16 * row_tiles;
    // The sums of a row, both panels, and those of the next row.
    static constexpr int kPanelSums = 256, kTileSums = 2 * kPanelSums;

    // A group whose sums are to be added.
    struct Group {
        const float* row_scales;
        const BFloat16* scales[2];
        int row, rows, panel;
        bool first, last;  // of its block
    };

    // How the sums of a group are added: to nothing before it; to what is there, in memory; the last one's results
    // become y, biased or not.
    enum class Add { nothing, first, more, last, last_biased, only, only_biased };
    static constexpr bool begins(Add add) { return add == Add::first || add == Add::only || add == Add::only_biased; }
    static constexpr bool is_biased(Add add) { return add == Add::last_biased || add == Add::only_biased; }
    static constexpr bool ends(Add add) { return add >= Add::last; }

    // Where the results of a block go: of each panel its biases, and its lanes that are channels.
    struct Output {
        S::F32 bias[2];
        __mmask16 lanes[2];
        float* y;
        std::ptrdiff_t ldy;
        int rows;

        template <Add add>
        void write(int i, int p, S::F32 v) const {
            _mm512_mask_storeu_ps(y + i * ldy + p * 16, lanes[p], (is_biased(add) ? S::add(v, bias[p]) : v).v);
        }
    };

    template <Add add>
    Output output(const Group& group) const {
        Output to{};
        if constexpr (ends(add)) {
            for (int p = 0; p < 2; ++p) {
                const int channel = (group.panel + p) * 16;
                const int lanes = group.panel + p < a_.panel_end ? a_.n - channel : 0;
                to.lanes[p] = static_cast<__mmask16>(lanes >= 16 ? 0xffff : (1 << lanes) - 1);
                if constexpr (is_biased(add)) to.bias[p] = lanes > 0 ? S::load(a_.bias + channel) : S::zero();
            }
            to.y = a_.y + group.row * a_.ldy + (group.panel - a_.panel_begin) * 16;
            to.ldy = a_.ldy;
            to.rows = group.rows;
        }
        return to;
    }

    // A group's sums, and what they are multiplied by. Passed by value: only so does GCC 12 keep it in registers.
    struct Sums {
        const std::int32_t* of;
        const float* row_scales;
        S::F32 left, right;  // scales of the panels
    };

    template <Add add>
    static Sums sums_of(const Group& group, const std::int32_t* sums) {
        if constexpr (add == Add::nothing) return {nullptr, nullptr, S::zero(), S::zero()};
        return {sums, group.row_scales, S::load(group.scales[0]), S::load(group.scales[1])};
    }

    template <Add add>
    inline __attribute__((always_inline)) void add_row(Sums sums, const Output& to, int i) {
        const S::F32 row_scale = S::set1(sums.row_scales[i]);
        const std::int32_t* const of = sums.of + i / 16 * kTileSums + i % 16 * 16;
        const auto scaled = [&](const std::int32_t* sum, S::F32 scale) {
            return S::mul(S::to_f32({_mm512_load_si512(sum)}), scale);
        };
        float (&acc)[2][16] = acc_[i];
        const S::F32 left = S::fma(scaled(of, sums.left), row_scale, begins(add) ? S::zero() : S::load(acc[0]));
        const S::F32 right =
            S::fma(scaled(of + kPanelSums, sums.right), row_scale, begins(add) ? S::zero() : S::load(acc[1]));
        if constexpr (!ends(add)) {
            S::store(acc[0], left);
            S::store(acc[1], right);
        } else if (i < to.rows) {
            to.template write<add>(i, 0, left);
            to.template write<add>(i, 1, right);
        }
    }

    // Slice `slice` of `slices` of the rows.
    template <Add add, int slice, int slices>
    inline __attribute__((always_inline)) void add_rows(Sums sums, const Output& to) {
        if constexpr (add != Add::nothing) {
#pragma GCC unroll 16
            for (int i = slice * kRows / slices; i < (slice + 1) * kRows / slices; ++i) add_row<add>(sums, to, i);
        }
    }

    // A tile product. The tiles' names have to be literals.
    template <int tile>
    static inline __attribute__((always_inline)) void multiply() {
        if constexpr (tile == 0) _tile_dpbssd(0, 4, 6);
        if constexpr (tile == 1) _tile_dpbssd(1, 4, 7);
        if constexpr (tile == 2) _tile_dpbssd(2, 5, 6);
        if constexpr (tile == 3) _tile_dpbssd(3, 5, 7);
    }

    // Stores the sums of the group before, and starts anew.
    template <int tile>
    static inline __attribute__((always_inline)) void start(std::int32_t* sums) {
        if constexpr (tile == 0) _tile_stored(0, sums, 64);
        if constexpr (tile == 1) _tile_stored(1, sums + kPanelSums, 64);
        if constexpr (tile == 2) _tile_stored(2, sums + 2 * kPanelSums, 64);
        if constexpr (tile == 3) _tile_stored(3, sums + 3 * kPanelSums, 64);
        if constexpr (tile == 0) _tile_zero(0);
        if constexpr (tile == 1) _tile_zero(1);
        if constexpr (tile == 2) _tile_zero(2);
        if constexpr (tile == 3) _tile_zero(3);
    }

    static void store_tiles(std::int32_t* sums) {
        start<0>(sums);
        start<1>(sums);
        if constexpr (row_tiles == 2) start<2>(sums);
        if constexpr (row_tiles == 2) start<3>(sums);
    }

    // A group's inputs: of the first row, and of both panels; and what the cache fetches while they are multiplied, or
    // null: as much of both panels, and the results' place.
    struct Inputs {
        const std::int8_t *x, *w[2], *ahead[2];
        float* y;
    };

    // Slice `slice` of `slices` of what is fetched.
    template <int slice, int slices>
    inline __attribute__((always_inline)) void fetch(const Inputs& from) const {
        constexpr int lines = kInt8Group * 16 / 64;  // of a panel
        if (from.ahead[0] != nullptr) {
#pragma GCC unroll 64
            for (int i = slice * 2 * lines / slices; i < (slice + 1) * 2 * lines / slices; ++i)
                __builtin_prefetch(from.ahead[i / lines] + i % lines * 64, 0, 2);
        }
        if (from.y != nullptr) {
#pragma GCC unroll 64
            for (int i = slice * kRows / slices; i < (slice + 1) * kRows / slices; ++i) {
                __builtin_prefetch(from.y + i * a_.ldy, 1);
                __builtin_prefetch(from.y + i * a_.ldy + 16, 1);
            }
        }
    }

    // 64 of them.
    template <Add add, int steps, int step>
    inline __attribute__((always_inline)) void multiply_step(const Inputs& from, std::int32_t* stored, Sums sums,
                                                             const Output& to) {
        constexpr int slices = steps * row_tiles * 2, slice = step * row_tiles * 2;
        const std::ptrdiff_t ld = a_.quantized.ld;
        if constexpr (step == 0) start<0>(stored);
        _tile_loadd(4, from.x + step * 64, ld);
        _tile_loadd(6, from.w[0] + step * 1024, 64);
        multiply<0>();
        fetch<slice, slices>(from);
        add_rows<add, slice, slices>(sums, to);
        if constexpr (step == 0) start<1>(stored);
        _tile_loadd(7, from.w[1] + step * 1024, 64);
        multiply<1>();
        fetch<slice + 1, slices>(from);
        add_rows<add, slice + 1, slices>(sums, to);
        if constexpr (row_tiles == 2) {
            if constexpr (step == 0) start<2>(stored);
            _tile_loadd(5, from.x + step * 64 + 16 * ld, ld);
            multiply<2>();
            fetch<slice + 2, slices>(from);
            add_rows<add, slice + 2, slices>(sums, to);
            if constexpr (step == 0) start<3>(stored);
            multiply<3>();
            fetch<slice + 3, slices>(from);
            add_rows<add, slice + 3, slices>(sums, to);
        }
    }

    // The tiles multiply a group; the sums of the group before it are stored; those of `group`, before that, are added.
    template <Add add, int steps>
    __attribute__((noinline)) void multiply_group(const Inputs& inputs, std::int32_t* stored, const std::int32_t* added,
                                                  const Group& group) {
        const Inputs from = inputs;  // a copy that nothing else can change stays in registers
        const Sums sums = sums_of<add>(group, added);
        const Output to = output<add>(group);
        multiply_step<add, steps, 0>(from, stored, sums, to);
        if constexpr (steps == 2) multiply_step<add, steps, 1>(from, stored, sums, to);
    }

    template <Add add>
    void add_group(const std::int32_t* sums, const Group& group) {
        const Output to = output<add>(group);
        for (int i = 0; i < kRows && add != Add::nothing; ++i) add_row<add>(sums_of<add>(group, sums), to, i);
    }

    Add how(int n) const {
        if (n < 2) return Add::nothing;
        const Group& g = done_[n & 1];
        if (!g.last) return g.first ? Add::first : Add::more;
        if (g.first) return a_.bias != nullptr ? Add::only_biased : Add::only;
        return a_.bias != nullptr ? Add::last_biased : Add::last;
    }

    // body.operator()<add>() for what is due of the group before the one before number n.
    template <class F>
    static inline void with(Add add, F body) {
        switch (add) {
            case Add::nothing:
                return body.template operator()<Add::nothing>();
            case Add::first:
                return body.template operator()<Add::first>();
            case Add::more:
                return body.template operator()<Add::more>();
            case Add::last:
                return body.template operator()<Add::last>();
            case Add::last_biased:
                return body.template operator()<Add::last_biased>();
            case Add::only:
                return body.template operator()<Add::only>();
            case Add::only_biased:
                return body.template operator()<Add::only_biased>();
        }
    }

    void finish(int n) {
        with(how(n), [&]<Add add>() { add_group<add>(sums_[n & 1], done_[n & 1]); });
    }

    // Of a panel and the one after it, what follows group g, on to the panels behind them; null where these are not
    // two.
    const std::int8_t* after(int panel, int g) const {
        const int then = g + 1 < groups_ ? panel : panel + 2;
        return (then + 1) * 16 < a_.n ? weights(then) + (g + 1) % groups_ * std::ptrdiff_t{kInt8Group * 16} : nullptr;
    }

    const std::int8_t* weights(int panel) const { return static_cast<const std::int8_t*>(a_.panels) + panel * stride_; }

    // The panel after an odd last one is that one again, of which nothing is written. Weights are fetched before they
    // are multiplied for the first time; and the place of many results that lie apart, since those of a part alone are
    // used up at once, and their place with them.
    void block(int row, int rows, int panel) {
        const int panels[2] = {panel, panel + 1 < a_.panel_end ? panel + 1 : panel};
        const BFloat16* const scales = a_.scales + panels[0] * groups_ * std::ptrdiff_t{16};
        const std::ptrdiff_t next = (panels[1] - panels[0]) * groups_ * std::ptrdiff_t{16};
        Inputs from{a_.quantized.at(row, 0).q, {weights(panels[0]), weights(panels[1])}, {}, nullptr};
        const int last = groups_ - 1, fetches_y = last < 2 ? 0 : last - 2;
        const bool apart = a_.ldy > (a_.panel_end - a_.panel_begin) * 16 && a_.rows > 2 * kRows;
        float* const y = a_.y + row * a_.ldy + (panel - a_.panel_begin) * std::ptrdiff_t{16};
        for (int g = 0; g < groups_; ++g, ++n_) {
            const bool half = int8_group_size(a_.k - g * kInt8Group) == kInt8Half;
            from.ahead[0] = row == 0 ? after(panel, g) : nullptr;
            from.ahead[1] = from.ahead[0] == nullptr ? nullptr : from.ahead[0] + stride_;
            from.y = apart && g == fetches_y ? y : nullptr;
            std::int32_t *const stored = sums_[(n_ + 1) & 1], *const added = sums_[n_ & 1];
            Group& group = done_[n_ & 1];
            with(how(n_), [&]<Add add>() {
                half ? multiply_group<add, 1>(from, stored, added, group)
                     : multiply_group<add, 2>(from, stored, added, group);
            });
            const BFloat16* const of_group = scales + g * 16;
            group = {a_.quantized.at(row, g).scales, {of_group, of_group + next}, row, rows, panel, g == 0, g == last};
            from.x += kInt8Group;
            for (const std::int8_t*& w : from.w) w += kInt8Group * 16;
        }
    }

    const LinearArgs& a_;
    const int groups_;
    const std::ptrdiff_t stride_;  // bytes from one panel to the next
    int n_ = 0;                    // groups so far
    Group done_[2];                // the last two
    alignas(64) std::int32_t sums_[2][row_tiles * kTileSums];
    alignas(64) float acc_[kRows][2][16];
};

}  // namespace

void linear_int8_amx(const LinearArgs& args);
void linear_int8_amx(const LinearArgs& a) {
    if (a.rows <= kFewRows) return linear_int8<S>(a);
    const TileScope tiles;
    const int pairs = a.rows % 32 > 16 ? a.rows : a.rows / 32 * 32;
    if (pairs > 0) TilePass<2>(a).run(0, pairs);
    if (pairs < a.rows) TilePass<1>(a).run(pairs, a.rows);
}

}  // namespace pygpt
