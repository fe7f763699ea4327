#include "packing/matrix.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <type_traits>
#include <utility>
#include <vector>

#include "threads/parallel.h"

namespace pygpt {

// Where source rows go: `count` rows from `row` on are the channels lane ... lane + count - 1 of one panel. All others
// of its channels belong to other tensors, or to nobody.
struct PanelRows {
    int row, count, panel, lane;
};

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

// The cut of a tensor's rows into panels. With a step of 32, where others' panels lie between, `first` is the start of
// a panel.
class PanelCut {
public:
    PanelCut(int rows, Channels to) : rows_(rows), to_(to), lane_(to.first % 16) {
        assert(to.step == 16 || lane_ == 0);
    }
    int size() const { return ceil_div(lane_ + rows_, 16); }
    PanelRows at(int i) const {
        const int begin = std::max(0, i * 16 - lane_), end = std::min(rows_, (i + 1) * 16 - lane_);
        return {begin, end - begin, (to_.first + i * to_.step) / 16, i == 0 ? lane_ : 0};
    }

private:
    const int rows_;
    const Channels to_;
    const int lane_;
};

template <class From, class To>
void write_rows(const Plain& src, Channels to, To* data, Team& team) {
    constexpr int kGroup = 8;  // panels of a task
    const PanelCut cut(src.rows, to);
    team.parallel_for(ceil_div(cut.size(), kGroup), [&](int task, int) {
        for (int i = task * kGroup; i < std::min(cut.size(), (task + 1) * kGroup); ++i) {
            const PanelRows p = cut.at(i);
            write_panel(static_cast<const From*>(src.data) + p.row * src.row_stride, src.row_stride, src.col_stride,
                        p.count, src.cols, data + static_cast<std::ptrdiff_t>(p.panel) * src.cols * 16, p.lane);
        }
    });
}

// `channels`, a multiple of 16, that lie side by side, as panels of k inputs, a group apart.
template <class From>
void write_side_by_side(const From* src, std::ptrdiff_t col_stride, int channels, int k, float* panels) {
    for (int i = 0; i < k; ++i) {
        for (int c = 0; c < channels; c += 16) {
            float* const to = panels + (c * kInt8Group + i * 16);
            for (int lane = 0; lane < 16; ++lane) convert(to[lane], src[i * col_stride + c + lane]);
        }
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
    return static_cast<std::size_t>(round_up(n, 16)) * inputs * size_of(dtype);
}

std::size_t PackedMatrix::scale_bytes(int n, int k) {
    return static_cast<std::size_t>(round_up(n, 16)) * static_cast<std::size_t>(int8_groups(k)) * sizeof(BFloat16);
}

PackedMatrix::PackedMatrix(int n, int k, DType dtype) : n_(n), k_(k), dtype_(dtype) {
    assert(dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::i8);
}

PackedMatrix::PackedMatrix(int n, int k, DType dtype, const void* data, const void* scales,
                           std::shared_ptr<const void> owner)
    : n_(n), k_(k), dtype_(dtype), owner_(std::move(owner)), data_(data), scales_(scales) {}

std::size_t PackedMatrix::bytes() const {
    return data_bytes(n_, k_, dtype_) + (dtype_ == DType::i8 ? scale_bytes(n_, k_) : 0);
}

// A group of inputs after the other: what is converted and rotated stays in the nearest caches, and where the channels
// lie side by side several panels' worth of them are read at once.
template <class From>
bool PackedMatrix::write_int8(const Plain& src, Channels to, const Kernels& kernels, Team& team) {
    const int wide = src.row_stride == 1 ? 8 : 1;
    const PanelCut cut(src.rows, to);
    const std::size_t tile = std::size_t{kInt8Group} * 16;
    std::vector<float> floats(static_cast<std::size_t>(team.size() * wide) * tile);
    std::atomic<bool> finite{true};
    team.parallel_for(ceil_div(cut.size(), wide), [&](int task, int thread) {
        float* const plain = floats.data() + static_cast<std::size_t>(thread * wide) * tile;
        const int first = task * wide, last = std::min(cut.size(), first + wide);
        const bool whole = cut.at(first).count == 16 && cut.at(last - 1).count == 16;
        for (int k0 = 0; k0 < k_; k0 += kInt8Group) {
            const int k = std::min(kInt8Group, k_ - k0);
            const From* const from = static_cast<const From*>(src.data) + k0 * src.col_stride;
            if (wide > 1 && whole) {
                write_side_by_side(from + cut.at(first).row, src.col_stride, (last - first) * 16, k, plain);
            } else {
                for (int i = first; i < last; ++i) {
                    const PanelRows p = cut.at(i);
                    write_panel(from + p.row * src.row_stride, src.row_stride, src.col_stride, p.count, k,
                                plain + static_cast<std::size_t>(i - first) * tile, p.lane);
                }
            }
            for (int i = first; i < last; ++i) {
                if (!pack_group(plain + static_cast<std::size_t>(i - first) * tile, k0, cut.at(i), kernels))
                    finite = false;
            }
        }
    });
    return finite;
}

// The group of inputs from k0 on of one panel's own channels.
bool PackedMatrix::pack_group(const float* plain, int k0, const PanelRows& rows, const Kernels& kernels) {
    const int k = std::min(kInt8Group, k_ - k0);
    const auto panel = static_cast<std::size_t>(rows.panel), from = static_cast<std::size_t>(k0);
    std::int8_t* const q =
        own_data_.as<std::int8_t>() + (panel * static_cast<std::size_t>(padded_inputs(k_)) + from) * 16;
    BFloat16* const scales =
        own_scales_.as<BFloat16>() + (panel * static_cast<std::size_t>(int8_groups(k_)) + from / kInt8Group) * 16;
    if (rows.count == 16) return kernels.pack_int8({plain, k, q, scales});
    std::int8_t all_q[kInt8Group * 16];
    BFloat16 all_scales[16];
    const bool finite = kernels.pack_int8({plain, k, all_q, all_scales});
    for (int lane = rows.lane; lane < rows.lane + rows.count; ++lane) {
        for (int i = 0; i < padded_inputs(k) / 4; ++i) {
            const int at = (i * 16 + lane) * 4;
            std::copy_n(all_q + at, 4, q + at);
        }
        scales[lane] = all_scales[lane];
    }
    return finite;
}

bool PackedMatrix::write_part(const Plain& src, Channels to, const Kernels& kernels, Team& team) {
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

bool PackedMatrix::write(const Plain& src, Channels to, const Kernels& kernels, Team& team,
                         const std::function<void()>& consumed) {
    assert(src.cols == k_ && owner_ == nullptr);
    if (data_ == nullptr) {
        own_data_ = Buffer(data_bytes(n_, k_, dtype_));
        if (dtype_ == DType::i8) own_scales_ = Buffer(scale_bytes(n_, k_));
        data_ = own_data_.data();
        scales_ = own_scales_.data();
    }
    constexpr std::size_t kPartBytes = std::size_t{16} << 20;
    const std::size_t row_bytes = size_of(src.dtype) * static_cast<std::size_t>(src.cols);
    const bool by_rows = consumed != nullptr && src.row_stride >= src.cols;
    const int part = by_rows ? static_cast<int>(std::min(kPartBytes / row_bytes, kPartBytes)) / 16 * 16 + 16 : src.rows;
    bool ok = true;
    for (int row = 0; row < src.rows; row += part) {
        Plain rows = src;
        rows.rows = std::min(part, src.rows - row);
        rows.data = static_cast<const std::byte*>(src.data) +
                    row * src.row_stride * static_cast<std::ptrdiff_t>(size_of(src.dtype));
        ok &= write_part(rows, {to.first + row / 16 * to.step, to.step}, kernels, team);
        if (consumed != nullptr) consumed();
    }
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
            const int size = int8_group_size(k_ - from);
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
