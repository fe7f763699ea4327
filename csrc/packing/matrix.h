// Weights in the layout the kernels read, and the only code that writes it.
#pragma once

#include <cstddef>

#include "base/buffer.h"
#include "base/dtype.h"

namespace pygpt {

class Team;

// A tensor as it lies in a checkpoint: strides in elements, any order.
struct Plain {
    const void* data;
    DType dtype;
    int rows;  // output channels
    int cols;  // inputs k
    std::ptrdiff_t row_stride;
    std::ptrdiff_t col_stride;
};

// Where the rows of one checkpoint tensor go among the channels of a packed matrix: row i becomes channel
// first + i / 16 * step + i % 16. step is 16, or 32 for a gate and the values it gates, whose panels alternate.
struct Channels {
    int first = 0;
    int step = 16;
};

// An (n, k) matrix as [ceil(n / 16)][k][16] float32 or bfloat16; channels that were never written are zero.
class PackedMatrix {
public:
    PackedMatrix() = default;
    PackedMatrix(int n, int k, DType dtype);

    // Converts and places all rows of `src`, whose columns must be k and whose channels must lie within n.
    void write(const Plain& src, Channels to, Team& team);

    // Channel `row` as k floats: how an embedding is looked up.
    void read_row(int row, float* out) const;

    int n() const { return n_; }
    int k() const { return k_; }
    int panels() const { return (n_ + 15) / 16; }
    DType dtype() const { return dtype_; }
    const void* data() const { return data_.data(); }
    std::size_t bytes() const { return data_.size(); }

private:
    int n_ = 0;
    int k_ = 0;
    DType dtype_ = DType::f32;
    Buffer data_;
};

// Converts rows x cols elements to contiguous float32.
void to_floats(const Plain& src, float* out);

}  // namespace pygpt
