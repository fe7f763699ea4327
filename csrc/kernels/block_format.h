// struct BlockFormat: a type of a GGUF file's quantised tensors, as a row of the kernel table.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pygpt {

constexpr int kBlockFormats = 15;

// A row of such a tensor is one block after the other, each of `values` values in `bytes` bytes.
struct BlockFormat {
    const char* name;  // in ggml; "MXFP4 pairs": as gpt-oss's first checkpoints have it, otherwise ordered
    int values;
    int bytes;

    // n blocks -> n * values floats, the same bits as those of the package gguf: value = scale * q, or scale * q +
    // offset, each product and sum rounded by itself. Infinite or NaN scales give what IEEE arithmetic says.
    void (*dequantize)(const void* blocks, std::ptrdiff_t n, float* out);
    // Where the values are those of MXFP4, a block's scale byte, and its values in order, two to a byte, the first in
    // the low half (base/mxfp4.h); null for all other types.
    void (*as_mxfp4)(const void* block, std::uint8_t* scale, std::uint8_t* pairs);
};

}  // namespace pygpt
