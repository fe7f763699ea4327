// struct BlockFormat: a type of a GGUF file's quantised tensors, as a row of the kernel table.
#pragma once

#include <cstddef>

namespace pygpt {

constexpr int kBlockFormats = 14;

// A row of such a tensor is one block after the other, each of `values` values in `bytes` bytes.
struct BlockFormat {
    const char* name;  // in ggml
    int values;
    int bytes;

    // n blocks -> n * values floats, the same bits as those of the package gguf: value = scale * q, or scale * q +
    // offset, each product and sum rounded by itself. Infinite or NaN scales give what IEEE arithmetic says.
    void (*dequantize)(const void* blocks, std::ptrdiff_t n, float* out);
};

}  // namespace pygpt
