// Weights in the layout the kernels read, and the only code that writes it.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "base/buffer.h"
#include "base/dtype.h"
#include "base/lanes.h"
#include "kernels/table.h"

namespace pygpt {

class Team;
struct PanelRows;

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

// An (n, k) matrix as [ceil(n / 16)][k][16] float32 or bfloat16, or as int8 with its scales (kernels/int8.h); channels
// that were never written are zero.
class PackedMatrix {
public:
    PackedMatrix() = default;
    // Its memory is taken by the first write().
    PackedMatrix(int n, int k, DType dtype);
    // Memory of somebody else, in this layout: data_bytes(n, k, dtype) and, for int8, scale_bytes(n, k) of it.
    PackedMatrix(int n, int k, DType dtype, const void* data, const void* scales, std::shared_ptr<const void> owner);

    static std::size_t data_bytes(int n, int k, DType dtype);
    static std::size_t scale_bytes(int n, int k);

    // Converts and places all rows of `src`, whose columns must be k and whose channels must lie within n. False where
    // int8 cannot hold them: an infinity, a NaN, or values too large to be rotated. `consumed`, if there is one, is
    // called now and then, when what was read so far is not needed again.
    [[nodiscard]] bool write(const Plain& src, Channels to, const Kernels& kernels, Team& team,
                             const std::function<void()>& consumed = {});

    // Channel `row` as k floats: how an embedding is looked up.
    void read_row(int row, float* out) const;

    int n() const { return n_; }
    int k() const { return k_; }
    int panels() const { return ceil_div(n_, 16); }
    DType dtype() const { return dtype_; }
    const void* data() const { return data_; }
    const BFloat16* scales() const { return static_cast<const BFloat16*>(scales_); }
    std::size_t bytes() const;

private:
    bool write_part(const Plain& src, Channels to, const Kernels& kernels, Team& team);
    template <class From>
    bool write_int8(const Plain& src, Channels to, const Kernels& kernels, Team& team);
    bool pack_group(const float* plain, int k0, const PanelRows& rows, const Kernels& kernels);

    int n_ = 0;
    int k_ = 0;
    DType dtype_ = DType::f32;
    Buffer own_data_, own_scales_;
    std::shared_ptr<const void> owner_;
    const void* data_ = nullptr;
    const void* scales_ = nullptr;  // int8 only
};

// Converts rows x cols elements to contiguous float32.
void to_floats(const Plain& src, float* out);

}  // namespace pygpt
