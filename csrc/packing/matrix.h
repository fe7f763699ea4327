// Weights in the layout the kernels read, and the only code that writes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/dtype.h"
#include "base/lanes.h"
#include "kernels/block_format.h"
#include "kernels/linear_format.h"
#include "packing/memory.h"

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
    // Or rows of these blocks: then row_stride is in bytes, cols a multiple of the values of a block, and dtype and
    // col_stride say nothing.
    const BlockFormat* blocks = nullptr;
    const float* factors = nullptr;  // (cols,): what PackedMatrix::write multiplies the columns by; null: 1
    // Where `data` lies in an open file, if it is a view of one: it is then read from there, in large pieces, which is
    // quicker than to map page after page, and leaves no pages behind.
    int fd = -1;
    std::int64_t offset = 0;

    std::ptrdiff_t row_bytes() const {
        return blocks != nullptr ? row_stride : row_stride * static_cast<std::ptrdiff_t>(size_of(dtype));
    }
    // From the first value of a row to the end of its last.
    std::ptrdiff_t bytes_of_row() const {
        if (blocks != nullptr) return cols / blocks->values * std::ptrdiff_t{blocks->bytes};
        return ((cols - 1) * col_stride + 1) * static_cast<std::ptrdiff_t>(size_of(dtype));
    }
    const void* row(std::ptrdiff_t i) const { return static_cast<const std::byte*>(data) + i * row_bytes(); }
};

// Where the rows of one checkpoint tensor go among the channels of a packed matrix: row i becomes channel
// first + i / 16 * step + i % 16. step is 16, or 32 for a gate and the values it gates, whose panels alternate.
struct Channels {
    int first = 0;
    int step = 16;

    int channel(int row) const { return first + row / 16 * step + row % 16; }
};

// An (n, k) matrix as ceil(n / 16) panels of a format, and where the format has them their scales,
// [ceil(n / 16)][groups(k)][16]; channels that were never written are zero.
class PackedMatrix {
public:
    PackedMatrix() = default;
    // Its memory is taken by the first write(). The format is a row of a kernel table, which outlives the matrix.
    PackedMatrix(int n, int k, const LinearFormat& format) : n_(n), k_(k), format_(&format) {}
    // Memory of somebody else, in this layout.
    PackedMatrix(int n, int k, const LinearFormat& format, const void* data, const BFloat16* scales,
                 std::shared_ptr<const void> owner);

    // Converts and places all rows of `src`, whose columns must be k and whose channels must lie within n. False where
    // the format cannot hold them. The first call takes the matrix's memory, of its own if none is given.
    // InvalidArgument where the file of `src` cannot be read.
    [[nodiscard]] bool write(const Plain& src, Channels to, Team& team, MatrixMemory* memory = nullptr);

    // Of a written matrix that has scales: the sum of the squares of a channel's; and the same channel times `factor`,
    // its scales rounded to bfloat16.
    float squared_scales(int channel) const;
    void multiply_channel(int channel, float factor);

    // Channel `row` as k floats: how an embedding is looked up.
    void read_row(int row, float* out) const;

    int n() const { return n_; }
    int k() const { return k_; }
    int panels() const { return ceil_div(n_, 16); }
    const LinearFormat& format() const { return *format_; }
    const void* data() const { return data_; }
    const BFloat16* scales() const { return scales_; }
    std::size_t bytes() const { return n_ == 0 ? 0 : data_bytes() + scale_count() * sizeof(BFloat16); }
    std::size_t scale_count() const { return static_cast<std::size_t>(panels()) * format_->panel_scales(k_); }

private:
    std::size_t data_bytes() const { return static_cast<std::size_t>(panels()) * format_->panel_bytes(k_); }
    template <class Turn>
    bool write_rows(const Plain& src, Channels to, Team& team, std::ptrdiff_t scratch, const Turn& turn);
    template <class From>
    bool write_columns(const Plain& src, Channels to, Team& team);
    template <class From>
    bool write_plain(const Plain& src, Channels to, Team& team);
    bool write_blocks(const Plain& src, Channels to, Team& team);
    void keep_blocks(const Plain& src, Channels to, Team& team);
    bool pack_group(const float* plain, const float* factors, int k0, const PanelRows& rows);

    int n_ = 0;
    int k_ = 0;
    const LinearFormat* format_ = nullptr;
    std::shared_ptr<std::byte> own_;  // the data, then the scales
    std::shared_ptr<const void> owner_;  // of somebody else's
    const void* data_ = nullptr;
    const BFloat16* scales_ = nullptr;
};

// Converts rows x cols elements to contiguous float32.
void to_floats(const Plain& src, float* out);

}  // namespace pygpt
