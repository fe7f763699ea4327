// struct CacheFormat: a format of cached keys and values as a row of the kernel table.
#pragma once

#include <cstddef>

#include "base/dtype.h"
#include "kernels/attention.h"

namespace pygpt {

// Keys and values of one head at consecutive positions, of one page.
struct StoreArgs {
    const float* keys;  // (rows, head_dim), row stride ld
    const float* values;
    std::ptrdiff_t ld;
    int rows;
    int head_dim;
    int slot;  // in the page of the first of them
    const float* center;  // (head_dim,), of a format that is centered, or null: what is taken off the keys
    // [padded_head(head_dim)] of the rotated key's numbers in their order, of a format that is centered, or null: by
    // how much what each was rounded up is taken off [padded_head(head_dim)] of them, of which those before and itself
    // 0.
    const float* feedback;
    std::byte* to_keys;  // the head's of the page
    std::byte* to_values;
};

// Those of StoreArgs::feedback.
constexpr int feedback_floats(int head_dim) { return padded_head(head_dim) * padded_head(head_dim); }

// What a position's bytes are depends on its own key and value alone, and on its segment's center and feedback.
//
// float32, float16: keys [padded_head(head_dim)][64 positions], values [64][padded_head(head_dim)]; what pads a head is
// never written. Beyond the largest float16 a number becomes it.
//
// int8: keys [padded_head(head_dim) / 4][64][4], values [64 / 4][padded_head(head_dim)][4], numbers in [-127, 127],
// each followed by 64 float32 scales: a number times the scale of its position is what it stands for. Both, a key less
// its center, are first rotated: completed with zeros to padded_head(head_dim) and multiplied by a block-diagonal
// matrix of Hadamard matrices (entries +-1, Sylvester's order) of the largest powers of two that fit, each times the
// power of two nearest to and not below the inverse of its norm. A key's numbers may be rounded one after the other,
// each after feedback from those before it. Keys and values that are not finite, or too large to be rotated,
// and those without a magnitude of at least kSmallestMagnitude count as zeros, of scale 0.
struct CacheFormat {
    const char* name;
    DType dtype;  // of a number
    int scale_bytes;  // a position and head has beside the numbers of its key, and of its value
    int most_head;  // the largest head_dim; 0: any
    bool centered;  // keys are kept less their centers

    void (*store)(const StoreArgs&);
    void (*attention)(const AttentionArgs&);

    // What the keys of a head take of a page; its values take as much.
    std::size_t head_bytes(int head_dim) const {
        const auto numbers = static_cast<std::size_t>(padded_head(head_dim));
        return kPagePositions * (numbers * size_of(dtype) + static_cast<std::size_t>(scale_bytes));
    }
};

}  // namespace pygpt
