// The formats whose weights are plain floats, [k][16] in each panel (kernels/linear_format.h).
#pragma once

#include <type_traits>

#include "kernels/body/tile.h"
#include "kernels/body/turn.h"
#include "kernels/body/whole_panels.h"
#include "kernels/linear_format.h"
#include "kernels/softmax.h"

namespace pygpt {
namespace {

// Inputs of one pass over more rows than a tile has.
constexpr int kInputBlock = 768;

// What one pass computes: for all rows of the call, `panels` panels from `panel` on (counted from the call's first),
// and of each output's chain the inputs [from, to).
struct FloatPart {
    int panel, panels, from, to;
};

// The part's product for `rows` rows from `row` on, of which the operands are m. Between passes an unfinished chain
// lies in y: a float32 loses nothing there.
template <class S, class P>
inline void float_rows(const LinearArgs& a, const FloatPart& part, const P& m, int row, int rows) {
    const bool biased = part.to == a.k && a.bias != nullptr;
    float* const y = a.y + row * a.ldy + part.panel * 16;
    const TileEnds ends = tile_ends(part.from == 0 ? nullptr : y, a.ldy, y, a.ldy,
                                    biased ? a.bias + (a.panel_begin + part.panel) * 16 : nullptr);
    if constexpr (P::kWidens) {
        tile_row_of<S, tile_rows<S>()>(rows, m, part.panels, ends);
    } else {
        block_product<S>(m, rows, part.panels, ends);
    }
}

// Weights as linear_many_rows reads them: kStep inputs of a panel lie in kBytes bytes.
template <class S, class T>
struct PlainWeights {
    static constexpr int kStep = 1, kBytes = 16 * sizeof(T);

    // Leaves the part's weights b at `wide`, panels [k][16] of floats one after the other. Returns how many of the rows
    // from the first one on are done on the way: those of a tile, which is to read every weight anyway.
    static int widen(const LinearArgs& a, const FloatPart& part, const void* b, const Ahead& ahead, float* wide) {
        const int rows = part_begin(1, ceil_div(a.rows, tile_rows<S>()), a.rows);
        const Product<T> plain{a.x + part.from, a.ldx, part.to - part.from, static_cast<const T*>(b),
                               a.k * std::ptrdiff_t{16}};
        float_rows<S>(a, part, WideningProduct<T>{{plain, ahead}, wide}, 0, rows);
        return rows;
    }
};

// More rows than a tile has. All of them pass over a few panels before the next ones, of which every tile fetches its
// share meanwhile: so the memory is read at an even pace, and what is read stays in the first two cache levels. Weights
// that are not floats are widened once for all rows.
template <class S, class Weights>
void linear_many_rows(const LinearArgs& a) {
    constexpr int kPanels = tile_panels<S, tile_rows<S>()>();
    constexpr bool kFloats = std::is_same_v<Weights, PlainWeights<S, float>>;
    alignas(64) float wide[kFloats ? 1 : kPanels * kInputBlock * 16];
    const std::ptrdiff_t stride = a.k / Weights::kStep * std::ptrdiff_t{Weights::kBytes};  // of panels, in bytes
    const int panels = a.panel_end - a.panel_begin, groups = ceil_div(panels, kPanels);
    const int passes = ceil_div(a.k, kInputBlock), tiles = ceil_div(a.rows, tile_rows<S>());
    const auto part_of = [&](int i) {
        const int pass = i / groups, panel = i % groups * kPanels;
        return FloatPart{panel, panels - panel < kPanels ? panels - panel : kPanels,
                         part_begin(pass, passes, a.k, Weights::kStep),
                         part_begin(pass + 1, passes, a.k, Weights::kStep)};
    };
    const auto weights_of = [&](const FloatPart& part) {
        return static_cast<const char*>(a.panels) + (a.panel_begin + part.panel) * stride +
               part.from / Weights::kStep * std::ptrdiff_t{Weights::kBytes};
    };
    for (int i = 0; i < passes * groups; ++i) {
        const FloatPart part = part_of(i);
        const char* const b = weights_of(part);
        const float* const x = a.x + part.from;
        const int k = part.to - part.from;
        const Ahead ahead{weights_of(part_of(i + 1)), Weights::kBytes / Weights::kStep / tiles, stride};
        if constexpr (kFloats) {
            const Product<float> plain{x, a.ldx, k, reinterpret_cast<const float*>(b), a.k * std::ptrdiff_t{16}};
            float_rows<S>(a, part, PacedProduct<float>{plain, ahead}, 0, a.rows);
        } else {
            const int done = Weights::widen(a, part, b, ahead, wide);
            const Ahead rest{ahead.at + (done == 0 ? 0 : k * ahead.step), ahead.step, stride};
            const Product<float> widened{x + done * a.ldx, a.ldx, k, wide, k * std::ptrdiff_t{16}};
            float_rows<S>(a, part, PacedProduct<float>{widened, rest}, done, a.rows - done);
        }
    }
}

template <class S, class T>
void linear_whole_floats(const LinearArgs& a) {
    if (a.rows > tile_rows<S>()) return linear_many_rows<S, PlainWeights<S, T>>(a);
    const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(a.k) * 16;
    const T* const b = static_cast<const T*>(a.panels) + a.panel_begin * stride;
    const FloatPart all{0, a.panel_end - a.panel_begin, 0, a.k};
    float_rows<S>(a, all, Product<T>{a.x, a.ldx, a.k, b, stride}, 0, a.rows);
}

template <class S, class T>
void linear_float(const LinearArgs& a) {
    for_whole_panels<S, tile_rows<S>()>(a, linear_whole_floats<S, T>);
}

inline void to_weight(float x, float& to) { to = x; }
inline void to_weight(float x, BFloat16& to) { to = to_bfloat16(x); }

template <class T>
bool pack_float(const PackArgs& a) {
    T* const panel = static_cast<T*>(a.panel);
    for (std::ptrdiff_t i = 0; i < a.k * std::ptrdiff_t{16}; ++i) to_weight(a.weights[i], panel[i]);
    return true;
}

template <class T>
void read_float_row(const void* panel, const BFloat16*, int k, int lane, float* out) {
    const T* at = static_cast<const T*>(panel) + lane;
    for (std::ptrdiff_t i = 0; i < k; ++i) out[i] = to_float(at[i * 16]);
}

// Panels of a task, a multiple of every tile's width; and rows that it has at least when rows are split as well.
constexpr int kFloatPanels = 24, kFloatRows = 48;
static_assert(kFloatPanels * 16 % kSoftmaxBlock == 0);

inline LinearCut float_cut(int rows, int panels, int tasks) {
    const int panel_parts = ceil_div(panels, kFloatPanels), most = rows < kFloatRows ? 1 : rows / kFloatRows;
    const int wanted = ceil_div(tasks, panel_parts);
    return {panel_parts, kFloatPanels, wanted < most ? wanted : most, 1};
}

template <class S, class T>
constexpr LinearFormat float_format(const char* name, DType dtype) {
    LinearFormat f{};
    f.name = name;
    f.dtype = dtype;
    f.piece = f.step = 1;
    f.group = kMostGroup;
    f.turn = turn<S>;
    f.pack = pack_float<T>;
    f.read_row = read_float_row<T>;
    f.multiply = linear_float<S, T>;
    f.cut = float_cut;
    return f;
}

}  // namespace
}  // namespace pygpt
