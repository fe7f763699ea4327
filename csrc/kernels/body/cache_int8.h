// Keys and values in int8: how they are stored and multiplied.
#pragma once

#include <cstdint>

#include "kernels/body/attention.h"
#include "kernels/body/attention_int8_tile.h"
#include "kernels/body/quantize.h"
#include "kernels/cache_format.h"

namespace pygpt {
namespace {

// What rotate_head() multiplies the blocks of a head by: of keys and values that are stored, or of queries and sums of
// values.
enum class HeadSide { stored, computed };

// One of the Hadamard matrices of a head's rotation, of 16 * registers rows, times `factor`.
template <class S, int registers>
inline void rotate_block(float* x, typename S::F32 factor) {
    typename S::F32 v[registers];
#pragma GCC unroll 4
    for (int i = 0; i < registers; ++i) v[i] = S::load(x + 16 * i);
#pragma GCC unroll 2
    for (int distance = registers / 2; distance > 0; distance /= 2) butterflies<S, registers>(v, distance);
#pragma GCC unroll 4
    for (int i = 0; i < registers; ++i) S::store(x + 16 * i, S::mul(S::rotate_lanes(v[i]), factor));
}

// x times the head's rotation (see CacheFormat), in place; `padded` numbers, 64-byte aligned.
template <class S>
inline void rotate_head(float* x, int padded, HeadSide side) {
    while (padded > 0) {
        int size = 16, halvings = 4;
        for (; 2 * size <= padded; size *= 2) ++halvings;
        // The matrix's norm is 2^(halvings / 2): both sides together divide by its square.
        const int half = halvings / 2, exponent = side == HeadSide::stored ? half : halvings - half;
        const auto factor = S::set1(bits_float(static_cast<std::uint32_t>(127 - exponent) << 23));
        for (int distance = size / 2; distance >= 64; distance /= 2) {
            for (int i = 0; i < size; i += 16) {
                if ((i & distance) != 0) continue;
                const auto a = S::load(x + i), b = S::load(x + i + distance);
                S::store(x + i, S::add(a, b));
                S::store(x + i + distance, S::sub(a, b));
            }
        }
        if (size == 16) rotate_block<S, 1>(x, factor);
        if (size == 32) rotate_block<S, 2>(x, factor);
        for (int i = 0; size >= 64 && i < size; i += 64) rotate_block<S, 4>(x + i, factor);
        x += size;
        padded -= size;
    }
}

// The scale of numbers of up to `magnitude`, or of the n numbers x, that are rounded to integers of up to `levels`, and
// what they are multiplied by for it; both 0 where there is nothing to tell apart. Not finite: the scale is NaN.
struct RowScale {
    float scale = 0.0f, factor = 0.0f;
};
inline RowScale row_scale(float magnitude, int levels) {
    const float most = static_cast<float>(levels);
    if (!is_finite(magnitude)) return {__builtin_nanf(""), 0.0f};
    if (magnitude < kSmallestMagnitude) return {};
    return {magnitude * (1.0f / most), most / magnitude};
}
template <class S>
inline RowScale row_scale(const float* x, int n, int levels) {
    auto largest = S::zero();
    for (int i = 0; i < n; i += 16) largest = S::larger_magnitude(largest, S::load(x + i));
    return row_scale(S::reduce_magnitude(largest), levels);
}

// n numbers and the zeros that complete them to 16, rounded to integers of up to 127 in place; returns the scale.
template <class S>
inline float round_row(float* x, int n) {
    const RowScale s = row_scale<S>(x, n, 127);
    for (int i = 0; i < n; i += 16) {
        S::store(x + i, s.factor == 0.0f ? S::zero() : rounded<S>(S::mul(S::load(x + i), S::set1(s.factor))));
    }
    return s.factor == 0.0f ? 0.0f : s.scale;
}

constexpr int kMostInt8Head = 1024;

// The same with feedback (see StoreArgs): each number is rounded after what those before it take off it.
template <class S>
inline float round_row_with_feedback(float* x, int n, const float* feedback) {
    const RowScale s = row_scale<S>(x, n, 127);
    for (int i = 0; i < n; i += 16) S::store(x + i, S::mul(S::load(x + i), S::set1(s.factor)));
    if (s.factor == 0.0f) {
        for (int i = 0; i < n; i += 16) S::store(x + i, S::zero());
        return 0.0f;
    }
    // First exact, then rounded: beside x, of which the next number is read back as soon as it is stored.
    alignas(64) float numbers[kMostInt8Head];
    const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(float);
    __builtin_memcpy(numbers, x, bytes);
    for (int i = 0; i < n; ++i, feedback += n) {
        const float wanted = x[i] > 127.0f ? 127.0f : x[i] < -127.0f ? -127.0f : x[i];
        const float found = wanted + kRoundingMagic - kRoundingMagic;
        const auto missing = S::set1(numbers[i] - found);
        numbers[i] = found;
        for (int j = i / 16 * 16; j < n; j += 16)
            S::store(x + j, S::fma(missing, S::load(feedback + j), S::load(x + j)));
    }
    __builtin_memcpy(x, numbers, bytes);
    return s.scale;
}

template <class S>
void store_int8(const StoreArgs& a) {
    const int padded = padded_head(a.head_dim);
    std::int8_t* const keys = reinterpret_cast<std::int8_t*>(a.to_keys);
    std::int8_t* const values = reinterpret_cast<std::int8_t*>(a.to_values);
    float* const key_scales = reinterpret_cast<float*>(keys + padded * kPagePositions) + a.slot;
    float* const value_scales = reinterpret_cast<float*>(values + padded * kPagePositions) + a.slot;
    // Of positions whose values lie side by side; rows that lie a large power of two apart would crowd a few sets of
    // the cache.
    alignas(64) float x[4][kMostInt8Head + 16];
    alignas(64) std::int8_t q[4][kMostInt8Head + 64];
    const auto rotated = [&](const float* from, const float* center, float* to) {
        for (int d = 0; d < padded; d += 16) {
            auto v = S::load_n(from + d, a.head_dim - d);
            if (center != nullptr) v = S::sub(v, S::load_n(center + d, a.head_dim - d));
            S::store(to + d, v);
        }
        rotate_head<S>(to, padded, HeadSide::stored);
    };
    const auto to_bytes = [&](const float* from, std::int8_t* to) {
        for (int d = 0; d < padded; d += 16) S::store_i8(to + d, S::load(from + d));
    };
    for (int row = 0, n = 0; row < a.rows; row += n) {
        const int slot = a.slot + row, place = slot % 4;
        n = 4 - place < a.rows - row ? 4 - place : a.rows - row;
        for (int i = 0; i < n; ++i) {
            rotated(a.keys + (row + i) * a.ld, a.center, x[i]);
            key_scales[row + i] = a.feedback == nullptr ? round_row<S>(x[i], padded)
                                                        : round_row_with_feedback<S>(x[i], padded, a.feedback);
            to_bytes(x[i], q[i]);
        }
        for (int d = 0; d < padded; d += 4) {
            std::int8_t* const to = keys + (d * kPagePositions + slot * 4);
            if (n == 4) {
                std::int32_t four[4];
                for (int i = 0; i < 4; ++i) __builtin_memcpy(four + i, q[i] + d, 4);
                __builtin_memcpy(to, four, 16);
            } else {
                for (int i = 0; i < n; ++i) __builtin_memcpy(to + i * 4, q[i] + d, 4);
            }
        }
        for (int i = 0; i < n; ++i) {
            rotated(a.values + (row + i) * a.ld, nullptr, x[i]);
            value_scales[row + i] = round_row<S>(x[i], padded);
        }
        std::int8_t* const to = values + (slot - place) * padded + place;
        if (n == 4) {
            for (int d = 0; d < padded; d += 16)
                S::store_i8x4(to + d * 4, S::load(x[0] + d), S::load(x[1] + d), S::load(x[2] + d), S::load(x[3] + d));
        } else {
            for (int i = 0; i < n; ++i) {
                to_bytes(x[i], q[i]);
                for (int d = 0; d < padded; ++d) to[d * 4 + i] = q[i][d];
            }
        }
    }
}

template <class S>
class Int8Cache {
public:
    using Element = std::int8_t;
    using V = typename S::F32;
    using Keys = typename S::KeyProducts;
    using Values = typename S::ValueProducts;
    static constexpr int kRows = kAttentionRows, kFew = kFewQueries;

    Int8Cache(const AttentionArgs& a, const AttentionMemory& memory) : a_(a), memory_(memory) {}

    void read_query(int i) {
        const int padded = memory_.padded;
        float* const x = memory_.segment_sums;
        for (int d = 0; d < padded; d += 16) S::store(x + d, S::load_n(a_.queries[i] + d, a_.head_dim - d));
        rotate_head<S>(x, padded, HeadSide::computed);
        const RowScale s = row_scale<S>(x, padded, query_levels(a_.head_dim));
        query_scales_[i] = s.scale * a_.scale;
        V total = S::zero();
        for (int d = 0; d < padded; d += 16) {
            const V q = s.factor == 0.0f ? S::zero() : rounded<S>(S::mul(S::load(x + d), S::set1(s.factor)));
            total = S::add(total, q);
            Keys::put(queries(i) + d / kRowNumbers * chunk(), d % kRowNumbers, q);
        }
        query_totals_[i] = static_cast<std::int32_t>(S::reduce_add(total));
    }

    // What the segment's center gives to each query's scores.
    void begin_segment(int index) {
        for (int i = 0; i < a_.n_queries; ++i) {
            V sum = S::zero();
            for (int d = 0; a_.centers != nullptr && d < a_.head_dim; d += 16) {
                const int n = a_.head_dim - d;
                sum = S::fma(S::load_n(a_.queries[i] + d, n), S::load_n(a_.centers + index * a_.center_stride + d, n),
                             sum);
            }
            by_center_[i] = S::reduce_add(sum) * a_.scale;
        }
    }

    const std::int8_t* opened(const std::int8_t* from) const { return from; }

    template <bool fetch>
    void scores(const AttentionTile& t, const std::int8_t* const* b, const std::int8_t* const* next) const {
        const Int8Product product{queries(t.from), 0,    chunk(),  query_totals_ + t.from, memory_.padded, b,
                                  kPagePositions,  next, t.n_pages};
        float* const to = t.weights(memory_);
        const float *const by_query = query_scales_ + t.from, *const by_center = by_center_ + t.from;
        int8_attention_product<S, Keys, fetch ? kFetchBytes<S> : 0>(
            product, t.rows(), ceil_div(t.seen, 16), [=, this](int row, int page, int column, V sum) {
                const V scale = S::load(scales(b[page]) + column);
                S::store(to + row * kWeightStride + page * kPagePositions + column,
                         S::fma(S::mul(sum, scale), S::set1(by_query[row]), S::set1(by_center[row])));
            });
    }

    // Adds to the tile's rows of `sums`; without `add` they start from nothing.
    template <bool fetch>
    void add_values(const AttentionTile& t, const std::int8_t* const* b, const std::int8_t* const* next, float* sums,
                    bool add) const {
        alignas(64) std::byte rows[kSegmentPages * kRows * Values::kRowBytes];
        float by_row[kSegmentPages * kRows];
        for (int p = 0; p < t.n_pages; ++p) {
            const float* const weights = t.weights(memory_) + p * kPagePositions;
            for (int r = 0; r < t.rows(); ++r) {
                const int at = p * kRows + r;
                by_row[at] =
                    round_weights(weights + r * kWeightStride, scales(b[p]), t.seen, rows + at * Values::kRowBytes);
            }
        }
        const int padded = memory_.padded;
        const Int8Product product{rows, kRows * Values::kRowBytes, 0, kNoTotals, t.seen, b, padded, next, t.n_pages};
        float* const to = sums + t.from * padded;
        int8_attention_product<S, Values, fetch ? kFetchBytes<S> : 0>(
            product, t.rows(), padded / 16, [=, &by_row](int row, int page, int column, V sum) {
                float* const at = to + row * padded + column;
                const V so_far = add || page > 0 ? S::load(at) : S::zero();
                S::store(at, S::fma(sum, S::set1(by_row[page * kRows + row]), so_far));
            });
    }

    // Sums of rotated values become those of the values.
    void turn_back(float* sums) const {
        for (int i = 0; i < a_.n_queries; ++i)
            rotate_head<S>(sums + i * memory_.padded, memory_.padded, HeadSide::computed);
    }

protected:
    // From 64 integers of all queries to the next.
    static constexpr std::ptrdiff_t chunk() { return kMaxAttentionQueries * std::ptrdiff_t{Keys::kRowBytes}; }

    std::byte* queries(int i) const { return reinterpret_cast<std::byte*>(memory_.queries) + i * Keys::kRowBytes; }
    const float* scales(const std::int8_t* page) const {
        return reinterpret_cast<const float*>(page + memory_.padded * kPagePositions);
    }

    const AttentionArgs& a_;
    const AttentionMemory& memory_;
    float query_scales_[kMaxAttentionQueries];
    float by_center_[kMaxAttentionQueries];

private:
    static constexpr std::int32_t kNoTotals[kRows] = {};

    // The weights of the positions of a page that are seen, times the scales of their values, as integers.
    float round_weights(const float* weights, const float* by, int seen, std::byte* to) const {
        alignas(64) float x[kPagePositions] = {};
        for (int i = 0; i < seen; i += 16) S::store(x + i, S::mul(S::load(weights + i), S::load(by + i)));
        const RowScale s = row_scale<S>(x, seen, kWeightLevels);
        const V factor = S::set1(s.factor);
        for (int i = 0; i < seen; i += 16)
            Values::put(to, i, s.factor == 0.0f ? S::zero() : rounded<S>(S::mul(S::load(x + i), factor)));
        return s.scale;
    }

    std::int32_t query_totals_[kMaxAttentionQueries];
};

template <class S>
constexpr CacheFormat int8_cache() {
    return {"int8", DType::i8, 4, kMostInt8Head, true, store_int8<S>, attention<S, Int8Cache<S>>};
}

}  // namespace
}  // namespace pygpt
