#include "packing/matrix.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"
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

// `count` <= 16 source rows into the lanes lane ... lane + count - 1 of [k][16] floats: of any strides, a few rows.
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

// Channels that lie side by side: `count` panels as [k][16] floats each.
template <class From>
void write_side_by_side(const From* src, std::ptrdiff_t col_stride, int count, int k, float* panels) {
    for (int i = 0; i < k; ++i) {
        const From* const from = src + i * col_stride;
        for (int p = 0; p < count; ++p) {
            float* const to = panels + (p * std::ptrdiff_t{k} + i) * 16;
            for (int lane = 0; lane < 16; ++lane) to[lane] = to_float(from[p * 16 + lane]);
        }
    }
}

// Parts of a tensor, read from its file if it is a view of one; for one thread.
class Source {
public:
    explicit Source(const Plain& plain) : plain_(plain) {}

    // `count` pieces of `bytes`, the first of them `from` bytes behind the tensor's start, each `stride` bytes behind
    // the one before. Valid until the next call.
    const std::byte* read(std::ptrdiff_t from, std::ptrdiff_t bytes, int count, std::ptrdiff_t stride) {
        if (plain_.fd < 0 || stride < bytes) return static_cast<const std::byte*>(plain_.data) + from;
        buffer_.resize(static_cast<std::size_t>((count - 1) * stride + bytes));
        if (stride - bytes < kGap) {
            read_piece(from, 0, (count - 1) * stride + bytes);
        } else {
            for (int i = 0; i < count; ++i) read_piece(from + i * stride, i * stride, bytes);
        }
        return buffer_.data();
    }

private:
    static constexpr std::ptrdiff_t kGap = 512;  // that costs less than another call of the system

    void read_piece(std::ptrdiff_t from, std::ptrdiff_t to, std::ptrdiff_t bytes) {
        while (bytes > 0) {
            const auto n = pread(plain_.fd, buffer_.data() + to, static_cast<std::size_t>(bytes), plain_.offset + from);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) throw InvalidArgument("the file cannot be read, or has become shorter");
            from += n, to += n, bytes -= n;
        }
    }

    const Plain& plain_;
    std::vector<std::byte> buffer_;
};

// A task reads about as much as this, unless there are too few of them for all threads.
constexpr std::ptrdiff_t kTaskBytes = std::ptrdiff_t{1} << 20;
constexpr int kTasksPerThread = 4;

}  // namespace

PackedMatrix::PackedMatrix(int n, int k, const LinearFormat& format, const void* data, const BFloat16* scales,
                           std::shared_ptr<const void> owner)
    : n_(n), k_(k), format_(&format), owner_(std::move(owner)), data_(data), scales_(scales) {}

// Panel after panel. turn(rows, panel, k0, k, scratch) gives the inputs k0 ... k0 + k - 1 of a panel's rows, which lie
// at `rows`, as [k][16] floats: one group after the other, so that what is converted and packed stays in the nearest
// caches. `scratch` is room for so many floats.
template <class Turn>
bool PackedMatrix::write_rows(const Plain& src, Channels to, Team& team, std::ptrdiff_t scratch, const Turn& turn) {
    const int group = format_->group;
    const PanelCut cut(src.rows, to);
    const std::ptrdiff_t stride = src.row_bytes(), bytes = src.bytes_of_row();
    const auto wanted = static_cast<int>(std::min<std::ptrdiff_t>(src.rows * bytes / kTaskBytes, cut.size()));
    const int tasks = std::min(cut.size(), std::max(wanted, team.size() * kTasksPerThread));
    std::vector<Source> sources(static_cast<std::size_t>(team.size()), Source(src));
    std::vector<float> floats(static_cast<std::size_t>(team.size() * scratch));
    std::atomic<bool> held{true};
    team.parallel_for(tasks, [&](int task, int thread) {
        const int last = part_begin(task + 1, tasks, cut.size());
        for (int i = part_begin(task, tasks, cut.size()); i < last; ++i) {
            const PanelRows panel = cut.at(i);
            Source& source = sources[static_cast<std::size_t>(thread)];
            const std::byte* const rows = source.read(panel.row * stride, bytes, panel.count, stride);
            for (int k0 = 0; k0 < k_; k0 += group) {
                const int k = std::min(group, k_ - k0);
                const float* const plain = turn(rows, panel, k0, k, floats.data() + thread * scratch);
                if (!pack_group(plain, src.factors, k0, panel)) held = false;
            }
        }
    });
    return held;
}

// Where channels lie side by side: a group of inputs after the other, so that what lies together is read together.
template <class From>
bool PackedMatrix::write_columns(const Plain& src, Channels to, Team& team) {
    constexpr int kWide = 8;  // panels that are converted together
    const int group = format_->group;
    const PanelCut cut(src.rows, to);
    const std::ptrdiff_t stride = src.col_stride * std::ptrdiff_t{sizeof(From)}, tile = group * std::ptrdiff_t{16};
    std::vector<Source> sources(static_cast<std::size_t>(team.size()), Source(src));
    std::vector<float> floats(static_cast<std::size_t>(team.size() * kWide * tile));
    std::atomic<bool> held{true};
    team.parallel_for(ceil_div(k_, group), [&](int task, int thread) {
        float* const plain = floats.data() + thread * kWide * tile;
        const int k0 = task * group, k = std::min(group, k_ - k0);
        const auto* const from = reinterpret_cast<const From*>(sources[static_cast<std::size_t>(thread)].read(
            k0 * stride, src.rows * std::ptrdiff_t{sizeof(From)}, k, stride));
        for (int first = 0; first < cut.size(); first += kWide) {
            const int last = std::min(cut.size(), first + kWide);
            const bool whole = cut.at(first).count == 16 && cut.at(last - 1).count == 16;
            if (whole) write_side_by_side(from + cut.at(first).row, src.col_stride, last - first, k, plain);
            for (int i = first; i < last; ++i) {
                const PanelRows p = cut.at(i);
                float* const panel = plain + (i - first) * std::ptrdiff_t{k} * 16;
                if (!whole) write_lanes(from + p.row, 1, src.col_stride, p.count, k, panel, p.lane);
                if (!pack_group(panel, src.factors, k0, p)) held = false;
            }
        }
    });
    return held;
}

template <class From>
bool PackedMatrix::write_plain(const Plain& src, Channels to, Team& team) {
    if (src.row_stride == 1 && src.col_stride != 1) return write_columns<From>(src, to, team);
    const std::ptrdiff_t tile = format_->group * std::ptrdiff_t{16};
    return write_rows(src, to, team, tile, [&](const std::byte* rows, const PanelRows& p, int k0, int k, float* plain) {
        const From* const from = reinterpret_cast<const From*>(rows) + k0 * src.col_stride;
        if (p.count == 16 && src.col_stride == 1) {
            format_->turn({from, src.dtype, src.row_stride, k, plain});
        } else {
            write_lanes(from, src.row_stride, src.col_stride, p.count, k, plain, p.lane);
        }
        return plain;
    });
}

// Blocks of the rows of a panel become floats just before they are packed, and no more of them than is packed at once.
bool PackedMatrix::write_blocks(const Plain& src, Channels to, Team& team) {
    const BlockFormat& blocks = *src.blocks;
    const int group = format_->group, span = std::max(group, blocks.values);
    assert(span % group == 0 && span % blocks.values == 0);
    const std::ptrdiff_t room = (span + group) * std::ptrdiff_t{16};
    return write_rows(src, to, team, room,
                      [&](const std::byte* rows, const PanelRows& p, int k0, int k, float* floats) {
                          float* const plain = floats + span * std::ptrdiff_t{16};
                          const int at = k0 % span, n = std::min(span, k_ - k0);
                          for (int c = 0; at == 0 && c < p.count; ++c) {
                              const std::byte* const row =
                                  rows + c * src.row_stride + k0 / blocks.values * std::ptrdiff_t{blocks.bytes};
                              blocks.dequantize(row, n / blocks.values, floats + c * std::ptrdiff_t{span});
                          }
                          if (p.count == 16) {
                              format_->turn({floats + at, DType::f32, span, k, plain});
                          } else {
                              write_lanes(floats + at, span, 1, p.count, k, plain, p.lane);
                          }
                          return plain;
                      });
}

// Blocks of the matrix's own format: their bytes go where they belong.
void PackedMatrix::keep_blocks(const Plain& src, Channels to, Team& team) {
    const LinearFormat& f = *format_;
    const PanelCut cut(src.rows, to);
    std::vector<Source> sources(static_cast<std::size_t>(team.size()), Source(src));
    team.parallel_for(cut.size(), [&](int task, int thread) {
        const PanelRows p = cut.at(task);
        const std::ptrdiff_t stride = src.row_bytes();
        Source& source = sources[static_cast<std::size_t>(thread)];
        const std::byte* const rows = source.read(p.row * stride, src.bytes_of_row(), p.count, stride);
        const auto panel = static_cast<std::size_t>(p.panel);
        for (int c = 0; c < p.count; ++c) {
            const std::byte* block = rows + c * stride;
            std::uint8_t* out = reinterpret_cast<std::uint8_t*>(own_.get()) + panel * f.panel_bytes(k_) + p.lane + c;
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
    std::byte* const data = own_.get() + panel * f.panel_bytes(k_) + from * 16 * size_of(f.dtype);
    BFloat16* const scales = f.scaled ? reinterpret_cast<BFloat16*>(own_.get() + data_bytes()) +
                                            panel * f.panel_scales(k_) + k0 / f.group * std::ptrdiff_t{16}
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

bool PackedMatrix::write(const Plain& src, Channels to, Team& team, MatrixMemory* memory) {
    assert(src.cols == k_ && owner_ == nullptr);
    if (data_ == nullptr) {
        MatrixMemory own;
        own_ = (memory != nullptr ? *memory : own).take(bytes());
        data_ = own_.get();
        if (format_->scaled) scales_ = reinterpret_cast<const BFloat16*>(own_.get() + data_bytes());
    }
    if (format_->pack == nullptr) {
        assert(src.blocks != nullptr && src.blocks->as_mxfp4 != nullptr);
        keep_blocks(src, to, team);
        return true;
    }
    if (src.blocks != nullptr) return write_blocks(src, to, team);
    bool held = true;
    with_type(src.dtype, [&](auto* from) { held = write_plain<std::remove_pointer_t<decltype(from)>>(src, to, team); });
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
    BFloat16* const at = reinterpret_cast<BFloat16*>(own_.get() + data_bytes()) +
                         channel / 16 * groups * std::ptrdiff_t{16} + channel % 16;
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
