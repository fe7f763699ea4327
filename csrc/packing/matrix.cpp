#include "packing/matrix.h"

#include <algorithm>
#include <cassert>
#include <type_traits>

#include "threads/parallel.h"

namespace pygpt {

namespace {

inline void convert(float& to, float from) { to = from; }
inline void convert(float& to, Half from) { to = to_float(from); }
inline void convert(float& to, BFloat16 from) { to = to_float(from); }
inline void convert(BFloat16& to, float from) { to = to_bfloat16(from); }
inline void convert(BFloat16& to, Half from) { to = to_bfloat16(to_float(from)); }
inline void convert(BFloat16& to, BFloat16 from) { to = from; }

// Calls f with a null pointer of the element type that `t` names.
template <class F>
void with_type(DType t, F f) {
    switch (t) {
        case DType::f32:
            return f(static_cast<float*>(nullptr));
        case DType::f16:
            return f(static_cast<Half*>(nullptr));
        case DType::bf16:
            return f(static_cast<BFloat16*>(nullptr));
    }
}

// Source rows [row, row + count) of one panel, count <= 16, into lanes lane ... lane + count - 1.
template <class From, class To>
void write_panel(const From* src, std::ptrdiff_t row_stride, std::ptrdiff_t col_stride, int count, int k, To* panel,
                 int lane) {
    if (count == 16 && row_stride == 1) {  // [in, out] storage: 16 channels lie side by side
        for (int i = 0; i < k; ++i) {
            for (int c = 0; c < 16; ++c) convert(panel[i * 16 + c], src[i * col_stride + c]);
        }
        return;
    }
    constexpr int kBlock = 16;  // a cache line of each row at a time
    for (int i0 = 0; i0 < k; i0 += kBlock) {
        const int i1 = std::min(k, i0 + kBlock);
        for (int c = 0; c < count; ++c) {
            const From* at = src + c * row_stride;
            for (int i = i0; i < i1; ++i) convert(panel[i * 16 + lane + c], at[i * col_stride]);
        }
    }
}

template <class From, class To>
void write_rows(const Plain& src, Channels to, To* data, Team& team) {
    const From* rows = static_cast<const From*>(src.data);
    const auto panel = [&](int channel) { return data + static_cast<std::ptrdiff_t>(channel / 16) * src.cols * 16; };
    const int step = to.step;
    if (to.first % 16 == 0) {  // groups of 16 rows fill whole panels
        constexpr int kGroup = 8;
        const int groups = (src.rows + 15) / 16;
        team.parallel_for((groups + kGroup - 1) / kGroup, [&](int task, int) {
            for (int g = task * kGroup; g < std::min(groups, (task + 1) * kGroup); ++g) {
                write_panel(rows + g * 16 * src.row_stride, src.row_stride, src.col_stride,
                            std::min(16, src.rows - g * 16), src.cols, panel(to.first + g * step), 0);
            }
        });
        return;
    }
    for (int i = 0; i < src.rows; ++i) {  // neighbours share panels: one thread
        const int channel = to.first + i / 16 * step + i % 16;
        write_panel(rows + i * src.row_stride, src.row_stride, src.col_stride, 1, src.cols, panel(channel),
                    channel % 16);
    }
}

}  // namespace

PackedMatrix::PackedMatrix(int n, int k, DType dtype)
    : n_(n),
      k_(k),
      dtype_(dtype),
      data_(static_cast<std::size_t>((n + 15) / 16) * 16 * static_cast<std::size_t>(k) * size_of(dtype)) {
    assert(dtype == DType::f32 || dtype == DType::bf16);
}

void PackedMatrix::write(const Plain& src, Channels to, Team& team) {
    assert(src.cols == k_);
    with_type(src.dtype, [&](auto* from) {
        using From = std::remove_pointer_t<decltype(from)>;
        if (dtype_ == DType::f32) {
            write_rows<From>(src, to, data_.as<float>(), team);
        } else {
            write_rows<From>(src, to, data_.as<BFloat16>(), team);
        }
    });
}

void PackedMatrix::read_row(int row, float* out) const {
    assert(0 <= row && row < n_);
    const std::ptrdiff_t start = static_cast<std::ptrdiff_t>(row / 16) * k_ * 16 + row % 16;
    if (dtype_ == DType::f32) {
        const float* at = data_.as<const float>() + start;
        for (int i = 0; i < k_; ++i) out[i] = at[i * 16];
    } else {
        const BFloat16* at = data_.as<const BFloat16>() + start;
        for (int i = 0; i < k_; ++i) out[i] = to_float(at[i * 16]);
    }
}

void to_floats(const Plain& src, float* out) {
    with_type(src.dtype, [&](auto* from) {
        using From = std::remove_pointer_t<decltype(from)>;
        const From* data = static_cast<const From*>(src.data);
        for (int r = 0; r < src.rows; ++r) {
            for (int c = 0; c < src.cols; ++c) convert(*out++, data[r * src.row_stride + c * src.col_stride]);
        }
    });
}

}  // namespace pygpt
