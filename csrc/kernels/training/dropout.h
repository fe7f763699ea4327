// Contract: dropout, whose masks are computed where they are used and never stored.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pygpt {

// Whether a value stays is a function of the key, its row and its column, so that a backward pass finds again what the
// forward pass dropped. With all arithmetic modulo powers of two: r = splitmix64(key + row), by its finaliser (Steele
// et al. 2014, doi:10.1145/2660193.2660195), in halves r0 and r1, the low one first;
//   x = 0x9e3779b9 column + r0;  x ^= x >> 16;  x *= 0x7feb352d;  x ^= x >> 15;  x += r1;  x *= 0x846ca68b;
//   x ^= x >> 16
// and values with x >= threshold stay, multiplied by `scale`. A threshold of 0: all stay as they are.
struct DropoutMask {
    std::uint64_t key = 0;
    std::uint32_t threshold = 0;
    float scale = 1.0f;
};

// The number of the first row of a head's mask of probabilities, of which there is one for each query.
constexpr std::uint64_t first_row_of_head(std::ptrdiff_t head) { return static_cast<std::uint64_t>(head) << 32; }

// to = from times what the mask says, plus `plus` if that is not null. `to` may be either of both.
struct DropoutArgs {
    const float* from;  // (rows, n), as all that follow
    const float* plus;
    float* to;
    std::ptrdiff_t rows;
    std::ptrdiff_t n;
    DropoutMask mask;
    std::uint64_t first_row;
};

}  // namespace pygpt
