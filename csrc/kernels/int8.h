// The int8 format: symmetric weights and activations in groups along k, both rotated.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "base/lanes.h"

namespace pygpt {

// The inputs k are cut into groups of 128; the last group has 64 where that is enough for what is left, and zeros after
// it. Within a group both sides of a product are multiplied by the Hadamard matrix H of that size (entries +-1,
// Sylvester's order): it spreads outliers over the group, so that one scale serves it (QuaRot, arXiv:2404.00456), and
// since H H^T = size * I, x w^T = (x H) (w H)^T / size. Each group of a channel of the weights has a bfloat16 scale,
// which contains the 1 / size, each group of a row of activations a float32 scale. A value is scale * q with q in
// [-127, 127]. A group without a magnitude of at least kSmallestMagnitude has scale 0.
constexpr int kInt8Group = 128;
constexpr int kInt8Half = kInt8Group / 2;
constexpr float kSmallestMagnitude = 1e-30f;

// The size of a group when `left` > 0 inputs are left, its own among them.
constexpr int int8_group_size(int left) { return left > kInt8Half ? kInt8Group : kInt8Half; }

// Inputs with the zeros that complete the last group.
constexpr int padded_inputs(int k) {
    const int left = k % kInt8Group;
    return k - left + (left == 0 ? 0 : int8_group_size(left));
}
constexpr int int8_groups(int k) { return ceil_div(k, kInt8Group); }

// Rows of quantised activations.
struct QuantizedRows {
    std::int8_t* q = nullptr;  // (rows, padded_inputs(k)), 64-byte aligned, row stride ld, a multiple of 64
    std::ptrdiff_t ld = 0;
    float* scales = nullptr;  // (int8_groups(k), rows), group stride ldg
    std::int32_t* sums = nullptr;  // (int8_groups(k), rows), group stride ldg: of each group's q
    std::ptrdiff_t ldg = 0;

    QuantizedRows at(std::ptrdiff_t row, std::ptrdiff_t group) const {
        return {q + row * ld + group * kInt8Group, ld, scales + group * ldg + row, sums + group * ldg + row, ldg};
    }
};

// Rows that a product may read together: q and scales must be readable up to a multiple of it.
constexpr int kInt8RowBlock = 16;

}  // namespace pygpt
