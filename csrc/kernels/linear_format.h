// struct LinearFormat: a format of weights as a row of the kernel table; and the contract of its products.
#pragma once

#include <cstddef>

#include "base/dtype.h"
#include "base/lanes.h"
#include "kernels/int8.h"

namespace pygpt {

// y = x W^T + bias, for some of W's output channels.
//
// float32, bfloat16 and MXFP4: every output is one chain of fused multiply-adds over k = 0, 1, ... starting from zero,
// then
// + bias. int8: the products of a group are added exactly, in int32; groups in order: y = fma(float(sum) * weight
// scale, activation scale, y), starting from zero, then + bias. So an output does not depend on how many rows are
// computed together, nor on the panel range.
struct LinearArgs {
    const float* x;  // (rows, k), row stride ldx; not read where the format prepares its input
    std::ptrdiff_t ldx;
    QuantizedRows quantized;  // (rows, k): what it then reads. A group of scale NaN makes its row NaN
    int rows;
    int k;
    const void* panels;  // the format's, channels beyond n zero
    const BFloat16* scales;  // [n / 16][groups(k)][16], of a format that has them
    const float* bias;  // (n rounded up to 16,) or null
    float* y;  // channel 16 * panel_begin of the first row; row stride ldy
    std::ptrdiff_t ldy;
    int n;
    int panel_begin;  // this call computes the channels 16 * panel_begin ... 16 * panel_end - 1
    int panel_end;
};

// How a product is cut into tasks: panel_parts x row_parts parts, which begin at multiples of panel_step panels and
// row_step rows and are nearly equal.
struct LinearCut {
    int panel_parts, panel_step;
    int row_parts, row_step;
};

// 16 channels of weights as [k][16] floats -> the same inputs of one packed panel, with the zeros that follow them.
struct PackArgs {
    const float* weights;
    int k;
    void* panel;
    BFloat16* scales;
};

// 16 channels of k plain values each (float32, float16 or bfloat16), a channel's side by side and each `stride` values
// behind the one before: as the [k][16] floats that are packed.
struct TurnArgs {
    const void* rows;
    DType dtype;
    std::ptrdiff_t stride;
    int k;
    float* to;
};

// The most inputs that are packed together.
constexpr int kMostGroup = 128;

// A panel holds 16 channels as [padded(k) / piece][16][piece] elements, or as the bytes that a format of blocks has for
// each `step` inputs.
struct LinearFormat {
    const char* name;
    DType dtype;  // of an element
    int piece;  // inputs of a channel that lie side by side; 0: blocks
    int block_bytes;  // of a panel's block
    int step;  // inputs are completed with zeros to a multiple of this
    int group;  // inputs that are packed together, where they begin at a multiple of it; and those of one scale
    bool scaled;  // each group of each channel has a bfloat16 scale, positive or zero

    void (*turn)(const TurnArgs&);  // null where pack is
    // False where a weight is not finite, or too large to be rotated, and the format cannot hold that. Null in a format
    // of blocks, which only takes those of files.
    bool (*pack)(const PackArgs&);
    // Channel `lane` of a panel as k floats.
    void (*read_row)(const void* panel, const BFloat16* scales, int k, int lane, float* out);
    // Puts k values into the form that multiply reads, one row of `to`; null where that is x itself. Whole groups may
    // be prepared apart, as soon as an epilogue has them.
    void (*prepare)(const float* x, int k, const QuantizedRows& to);
    void (*multiply)(const LinearArgs&);
    // For products of many rows on several threads, of which `tasks` parts are enough: a part's panels stay in the
    // second-level cache while its rows pass over them. Where there is a `prepare`, parts begin at a multiple of
    // 2 * group channels, so that what remains of a gated product are whole groups.
    LinearCut (*cut)(int rows, int panels, int tasks);

    int padded(int k) const { return round_up(k, step); }
    int groups(int k) const { return ceil_div(k, group); }
    std::size_t panel_bytes(int k) const {
        const auto inputs = static_cast<std::size_t>(padded(k));
        return piece == 0 ? inputs / static_cast<std::size_t>(step) * static_cast<std::size_t>(block_bytes)
                          : inputs * 16 * size_of(dtype);
    }
    std::size_t panel_scales(int k) const { return scaled ? std::size_t{16} * static_cast<std::size_t>(groups(k)) : 0; }
};

}  // namespace pygpt
