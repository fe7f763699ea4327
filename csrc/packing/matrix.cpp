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

// Calls f with a null pointer of the element type that `t`, a type of plain tensors, names.
template <class F>
void with_type(DType t, F f) {
    if (t == DType::f32) return f(static_cast<float*>(nullptr));
    if (t == DType::f16) return f(static_cast<Half*>(nullptr));
    assert(t == DType::bf16);
    f(static_cast<BFloat16*>(nullptr));
}

// `count` <= 16 source rows into the lanes lane ... lane + count - 1 of [k][16] floats.
template <class From>
void write_lanes(const From* src, std::ptrdiff_t row_stride, std::ptrdiff_t col_stride, int count, int k, float* panel,
                 int lane) {
    constexpr int kBlock = 16;  // a cache line of each row at a time
    for (int i0 = 0; i0 < k; i0 += kBlock) {
        const int i1 = std::min(k, i0 + kBlock);
        for (int c = 0; c < count; ++c) {
            const From* at = src + c * row_stride;
            for (int i = i0; i < i1; ++i) panel[i * 16 + lane + c] = to_float(at[i * col_stride]);
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

// `channels`, a multiple of 16, that lie side by side, as [k][16] floats each `apart` from the other.
template <class From>
void write_side_by_side(const From* src, std::ptrdiff_t col_stride, int channels, int k, float* panels,
                        std::ptrdiff_t apart) {
    for (int i = 0; i < k; ++i) {
        for (int c = 0; c < channels; c += 16) {
            float* const to = panels + c / 16 * apart + i * 16;
            for (int lane = 0; lane < 16; ++lane) to[lane] = to_float(src[i * col_stride + c + lane]);
        }
    }
}

}  // namespace

PackedMatrix::PackedMatrix(int n, int k, const LinearFormat& format, const void* data, const BFloat16* scales,
                           std::shared_ptr<const void> owner)
    : n_(n), k_(k), format_(&format), owner_(std::move(owner)), data_(data), scales_(scales) {}

// A group of inputs after the other: what is converted and packed stays in the nearest caches, and where the channels
// lie side by side several panels' worth of them are read at once.
template <class From>
bool PackedMatrix::write_part(const Plain& src, Channels to, Team& team) {
    const int wide = src.row_stride == 1 ? 8 : 1, group = format_->group;
    const PanelCut cut(src.rows, to);
    const std::ptrdiff_t tile = group * std::ptrdiff_t{16};
    std::vector<float> floats(static_cast<std::size_t>(team.size() * wide * tile));
    std::atomic<bool> held{true};
    team.parallel_for(ceil_div(cut.size(), wide), [&](int task, int thread) {
        float* const plain = floats.data() + thread * wide * tile;
        const int first = task * wide, last = std::min(cut.size(), first + wide);
        const bool whole = cut.at(first).count == 16 && cut.at(last - 1).count == 16;
        for (int k0 = 0; k0 < k_; k0 += group) {
            const int k = std::min(group, k_ - k0);
            const From* const from = static_cast<const From*>(src.data) + k0 * src.col_stride;
            if (wide > 1 && whole) {
                write_side_by_side(from + cut.at(first).row, src.col_stride, (last - first) * 16, k, plain, tile);
            } else {
                for (int i = first; i < last; ++i) {
                    const PanelRows p = cut.at(i);
                    write_lanes(from + p.row * src.row_stride, src.row_stride, src.col_stride, p.count, k,
                                plain + (i - first) * tile, p.lane);
                }
            }
            for (int i = first; i < last; ++i) {
                if (!pack_group(plain + (i - first) * tile, src.factors, k0, cut.at(i))) held = false;
            }
        }
    });
    return held;
}

// Blocks of the rows of a panel become floats just before they are packed, and no more of them than is packed at once.
bool PackedMatrix::write_blocks(const Plain& src, Channels to, Team& team) {
    const BlockFormat& blocks = *src.blocks;
    const int group = format_->group, span = std::max(group, blocks.values);
    assert(span % group == 0 && span % blocks.values == 0);
    const PanelCut cut(src.rows, to);
    std::vector<float> floats(static_cast<std::size_t>(team.size()) * static_cast<std::size_t>(span + group) * 16);
    std::atomic<bool> held{true};
    team.parallel_for(cut.size(), [&](int task, int thread) {
        float* const rows = floats.data() + thread * static_cast<std::ptrdiff_t>(span + group) * 16;
        float* const plain = rows + span * std::ptrdiff_t{16};
        const PanelRows panel = cut.at(task);
        for (int k0 = 0; k0 < k_; k0 += span) {
            const int n = std::min(span, k_ - k0);
            for (int c = 0; c < panel.count; ++c) {
                const std::byte* const row = static_cast<const std::byte*>(src.row(panel.row + c));
                const std::ptrdiff_t begin = k0 / blocks.values * std::ptrdiff_t{blocks.bytes};
                blocks.dequantize(row + begin, n / blocks.values, rows + c * std::ptrdiff_t{span});
            }
            for (int at = 0; at < n; at += group) {
                write_lanes(rows + at, span, 1, panel.count, std::min(group, n - at), plain, panel.lane);
                if (!pack_group(plain, src.factors, k0 + at, panel)) held = false;
            }
        }
    });
    return held;
}

// Blocks of the matrix's own format: their bytes go where they belong.
void PackedMatrix::keep_blocks(const Plain& src, Channels to, Team& team) {
    const LinearFormat& f = *format_;
    const PanelCut cut(src.rows, to);
    team.parallel_for(cut.size(), [&](int task, int) {
        const PanelRows p = cut.at(task);
        const auto panel = static_cast<std::size_t>(p.panel);
        for (int c = 0; c < p.count; ++c) {
            const std::byte* block = static_cast<const std::byte*>(src.row(p.row + c));
            std::uint8_t* out = own_data_.as<std::uint8_t>() + panel * f.panel_bytes(k_) + p.lane + c;
            for (int k0 = 0; k0 < k_; k0 += f.step, block += src.blocks->bytes, out += f.block_bytes) {
                std::uint8_t pairs[16];
                src.blocks->as_mxfp4(block, out, pairs);
                for (int i = 0; i < 16; ++i) out[16 + i * 16] = pairs[i];
            }
        }
    });
}

// The group of inputs from k0 on of one panel's own channels.
bool PackedMatrix::pack_group(const float* plain, const float* factors, int k0, const PanelRows& rows) {
    const LinearFormat& f = *format_;
    const int k = std::min(f.group, k_ - k0);
    alignas(64) float multiplied[kMostGroup * 16];
    if (factors != nullptr) {
        for (int i = 0; i < k; ++i) {
            for (int c = 0; c < 16; ++c) multiplied[i * 16 + c] = plain[i * 16 + c] * factors[k0 + i];
        }
        plain = multiplied;
    }
    const auto panel = static_cast<std::size_t>(rows.panel), from = static_cast<std::size_t>(k0);
    std::byte* const data = own_data_.data() + panel * f.panel_bytes(k_) + from * 16 * size_of(f.dtype);
    BFloat16* const scales =
        f.scaled ? own_scales_.as<BFloat16>() + panel * f.panel_scales(k_) + k0 / f.group * std::ptrdiff_t{16}
                 : nullptr;
    if (rows.count == 16) return f.pack({plain, k, data, scales});
    alignas(64) std::byte all_data[kMostGroup * 16 * sizeof(float)];
    BFloat16 all_scales[16];
    const bool held = f.pack({plain, k, all_data, all_scales});
    const std::size_t piece = static_cast<std::size_t>(f.piece) * size_of(f.dtype);
    for (int lane = rows.lane; lane < rows.lane + rows.count; ++lane) {
        for (int i = 0; i < f.padded(k) / f.piece; ++i) {
            const std::size_t at = static_cast<std::size_t>(i * 16 + lane) * piece;
            std::copy_n(all_data + at, piece, data + at);
        }
        if (f.scaled) scales[lane] = all_scales[lane];
    }
    return held;
}

bool PackedMatrix::write_part(const Plain& src, Channels to, Team& team) {
    if (format_->pack == nullptr) {
        assert(src.blocks != nullptr && src.blocks->as_mxfp4 != nullptr);
        keep_blocks(src, to, team);
        return true;
    }
    if (src.blocks != nullptr) return write_blocks(src, to, team);
    bool held = true;
    with_type(src.dtype, [&](auto* from) { held = write_part<std::remove_pointer_t<decltype(from)>>(src, to, team); });
    return held;
}

bool PackedMatrix::write(const Plain& src, Channels to, Team& team, const std::function<void()>& consumed) {
    assert(src.cols == k_ && owner_ == nullptr);
    if (data_ == nullptr) {
        own_data_ = Buffer(data_bytes());
        if (format_->scaled) own_scales_ = Buffer(scale_count() * sizeof(BFloat16));
        data_ = own_data_.data();
        scales_ = own_scales_.as<BFloat16>();
    }
    constexpr std::size_t kPartBytes = std::size_t{16} << 20;
    const bool by_rows = consumed != nullptr && (src.blocks != nullptr || src.row_stride >= src.cols);
    const auto row_bytes = static_cast<std::size_t>(std::max<std::ptrdiff_t>(1, src.row_bytes()));
    const int part = by_rows ? static_cast<int>(std::min(kPartBytes / row_bytes, kPartBytes)) / 16 * 16 + 16 : src.rows;
    bool held = true;
    for (int row = 0; row < src.rows; row += part) {
        Plain rows = src;
        rows.rows = std::min(part, src.rows - row);
        rows.data = src.row(row);
        held &= write_part(rows, {to.first + row / 16 * to.step, to.step}, team);
        if (consumed != nullptr) consumed();
    }
    return held;
}

float PackedMatrix::squared_scales(int channel) const {
    const int groups = format_->groups(k_);
    const BFloat16* const at = scales_ + channel / 16 * groups * std::ptrdiff_t{16} + channel % 16;
    float sum = 0.0f;
    for (int g = 0; g < groups; ++g) sum += to_float(at[g * 16]) * to_float(at[g * 16]);
    return sum;
}

void PackedMatrix::multiply_channel(int channel, float factor) {
    const int groups = format_->groups(k_);
    BFloat16* const at = own_scales_.as<BFloat16>() + channel / 16 * groups * std::ptrdiff_t{16} + channel % 16;
    for (int g = 0; g < groups; ++g) at[g * 16] = to_bfloat16(to_float(at[g * 16]) * factor);
}

void PackedMatrix::read_row(int row, float* out) const {
    assert(0 <= row && row < n_);
    const auto panel = static_cast<std::size_t>(row / 16);
    const std::byte* const data = static_cast<const std::byte*>(data_) + panel * format_->panel_bytes(k_);
    const BFloat16* const scales = format_->scaled ? scales_ + panel * format_->panel_scales(k_) : nullptr;
    format_->read_row(data, scales, k_, row % 16, out);
}

void to_floats(const Plain& src, float* out) {
    if (const BlockFormat* const blocks = src.blocks) {
        for (std::ptrdiff_t r = 0; r < src.rows; ++r) {
            blocks->dequantize(src.row(r), src.cols / blocks->values, out + r * src.cols);
        }
        return;
    }
    with_type(src.dtype, [&](auto* from) {
        using From = std::remove_pointer_t<decltype(from)>;
        const From* data = static_cast<const From*>(src.data);
        for (int r = 0; r < src.rows; ++r) {
            for (int c = 0; c < src.cols; ++c) *out++ = to_float(data[r * src.row_stride + c * src.col_stride]);
        }
    });
}

}  // namespace pygpt
