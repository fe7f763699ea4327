#include "packing/matrix.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <type_traits>
#include <utility>
#include <vector>

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
        case DType::i8:
            break;
    }
    assert(false);
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

// A panel's values of 16 channels from lane `lane` on, `count` of them, as far as they are alone in their bytes.
void copy_lanes(const std::int8_t* from, std::int8_t* to, int steps, int lane, int count) {
    for (int i = 0; i < steps; ++i) {
        std::copy_n(from + i * 64 + lane * 4, count * 4, to + i * 64 + lane * 4);
    }
}

// v H in place, as in kernels/int8.h.
void rotate(float* v, int size) {
    for (int distance = 1; distance < size; distance *= 2) {
        for (int i = 0; i < size; i += 2 * distance) {
            for (int j = i; j < i + distance; ++j) {
                const float a = v[j], b = v[j + distance];
                v[j] = a + b;
                v[j + distance] = a - b;
            }
        }
    }
}

}  // namespace

std::size_t PackedMatrix::data_bytes(int n, int k, DType dtype) {
    const auto inputs = static_cast<std::size_t>(dtype == DType::i8 ? padded_inputs(k) : k);
    return static_cast<std::size_t>((n + 15) / 16) * 16 * inputs * size_of(dtype);
}

std::size_t PackedMatrix::scale_bytes(int n, int k) {
    return static_cast<std::size_t>((n + 15) / 16) * 16 * static_cast<std::size_t>(int8_groups(k)) * sizeof(BFloat16);
}

PackedMatrix::PackedMatrix(int n, int k, DType dtype)
    : n_(n),
      k_(k),
      dtype_(dtype),
      own_data_(data_bytes(n, k, dtype)),
      own_scales_(dtype == DType::i8 ? scale_bytes(n, k) : 0),
      data_(own_data_.data()),
      scales_(own_scales_.data()) {
    assert(dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::i8);
}

PackedMatrix::PackedMatrix(int n, int k, DType dtype, const void* data, const void* scales,
                           std::shared_ptr<const void> owner)
    : n_(n), k_(k), dtype_(dtype), owner_(std::move(owner)), data_(data), scales_(scales) {}

std::size_t PackedMatrix::bytes() const {
    return data_bytes(n_, k_, dtype_) + (dtype_ == DType::i8 ? scale_bytes(n_, k_) : 0);
}

template <class From>
bool PackedMatrix::write_int8(const Plain& src, Channels to, const Kernels& kernels, Team& team) {
    const auto k = static_cast<std::size_t>(k_), padded = static_cast<std::size_t>(padded_inputs(k_));
    const auto groups = static_cast<std::size_t>(int8_groups(k_));
    const bool whole = to.first % 16 == 0;  // 16 rows fill a panel; otherwise neighbours share panels
    const int per_task = whole ? 16 : 1;
    std::vector<float> floats(static_cast<std::size_t>(team.size()) * k * 16);
    std::vector<std::int8_t> panel(whole ? 0 : padded * 16);
    std::vector<BFloat16> scales(whole ? 0 : groups * 16);
    std::atomic<bool> finite{true};
    const auto pack = [&](int row, int thread) {
        float* plain = floats.data() + static_cast<std::size_t>(thread) * k * 16;
        const int channel = to.first + row / 16 * to.step + row % 16;
        const int count = std::min(per_task, src.rows - row);
        if (count < 16) std::fill_n(plain, k * 16, 0.0f);
        write_panel(static_cast<const From*>(src.data) + row * src.row_stride, src.row_stride, src.col_stride, count,
                    k_, plain, channel % 16);
        const auto at = static_cast<std::size_t>(channel / 16);
        std::int8_t* const data = own_data_.as<std::int8_t>() + at * padded * 16;
        BFloat16* const data_scales = own_scales_.as<BFloat16>() + at * groups * 16;
        if (whole) {
            if (!kernels.pack_int8({plain, k_, data, data_scales})) finite = false;
            return;
        }
        if (!kernels.pack_int8({plain, k_, panel.data(), scales.data()})) finite = false;
        copy_lanes(panel.data(), data, static_cast<int>(padded / 4), channel % 16, 1);
        for (std::size_t g = 0; g < groups; ++g) {
            data_scales[g * 16 + static_cast<std::size_t>(channel % 16)] =
                scales[g * 16 + static_cast<std::size_t>(channel % 16)];
        }
    };
    if (whole) {
        team.parallel_for((src.rows + 15) / 16, [&](int task, int thread) { pack(task * 16, thread); });
    } else {
        for (int row = 0; row < src.rows; ++row) pack(row, 0);
    }
    return finite;
}

bool PackedMatrix::write(const Plain& src, Channels to, const Kernels& kernels, Team& team) {
    assert(src.cols == k_ && owner_ == nullptr);
    bool ok = true;
    with_type(src.dtype, [&](auto* from) {
        using From = std::remove_pointer_t<decltype(from)>;
        if (dtype_ == DType::f32) {
            write_rows<From>(src, to, own_data_.as<float>(), team);
        } else if (dtype_ == DType::bf16) {
            write_rows<From>(src, to, own_data_.as<BFloat16>(), team);
        } else {
            ok = write_int8<From>(src, to, kernels, team);
        }
    });
    return ok;
}

void PackedMatrix::read_row(int row, float* out) const {
    assert(0 <= row && row < n_);
    const std::ptrdiff_t panel = row / 16, lane = row % 16;
    if (dtype_ == DType::f32) {
        const float* at = static_cast<const float*>(data_) + panel * k_ * 16 + lane;
        for (int i = 0; i < k_; ++i) out[i] = at[i * 16];
    } else if (dtype_ == DType::bf16) {
        const BFloat16* at = static_cast<const BFloat16*>(data_) + panel * k_ * 16 + lane;
        for (int i = 0; i < k_; ++i) out[i] = to_float(at[i * 16]);
    } else {
        const std::int8_t* at = static_cast<const std::int8_t*>(data_) + panel * padded_inputs(k_) * 16 + lane * 4;
        const BFloat16* scale = scales() + panel * int8_groups(k_) * 16 + lane;
        for (int from = 0; from < k_; from += kInt8Group, scale += 16) {
            float v[kInt8Group];
            const int size = k_ - from > kInt8Half ? kInt8Group : kInt8Half;
            const float s = to_float(*scale);
            for (int i = 0; i < size; ++i) v[i] = s * static_cast<float>(at[(from + i) / 4 * 64 + i % 4]);
            rotate(v, size);
            std::copy_n(v, std::min(size, k_ - from), out + from);
        }
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
