// Keys and values of one head in pages, of any format, and what attention over them must be.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "base/lanes.h"
#include "kernels/table.h"
#include "support.h"

namespace pygpt::test {

// What a call makes of its scores; slopes and sinks: one a query, or none.
struct Rule {
    Rule(float scale, float cap = 0.0f, std::vector<float> slopes = {}, std::vector<float> sinks = {})
        : scale(scale), cap(cap), slopes(std::move(slopes)), sinks(std::move(sinks)) {}

    Rule alone(std::size_t i) const {
        return {scale, cap, slopes.empty() ? slopes : std::vector<float>{slopes[i]},
                sinks.empty() ? sinks : std::vector<float>{sinks[i]}};
    }

    float scale, cap;
    std::vector<float> slopes, sinks;
};

using Ranges = std::vector<KeyRange>;

inline Ranges from_the_start(const std::vector<int>& limits) {
    Ranges ranges;
    for (const int limit : limits) ranges.push_back({0, limit});
    return ranges;
}

inline const float* data_or_null(const std::vector<float>& v) { return v.empty() ? nullptr : v.data(); }

// What a page of a head holds, as numbers: of float formats and int8, see CacheFormat.
struct PageReader {
    const CacheFormat& format;
    int head_dim;

    int padded() const { return padded_head(head_dim); }
    double number(const std::byte* at, int i) const {
        if (format.dtype == DType::f32) return reinterpret_cast<const float*>(at)[i];
        if (format.dtype == DType::f16) return to_float(reinterpret_cast<const Half*>(at)[i]);
        return reinterpret_cast<const std::int8_t*>(at)[i];
    }
    // Of a position's key or value; 1 where the format has none.
    float scale(const std::byte* at, int slot) const {
        if (format.dtype != DType::i8) return 1.0f;
        return reinterpret_cast<const float*>(at + padded() * kPagePositions)[slot];
    }
    // A position's numbers times its scale: in int8, those of the rotated key or value.
    std::vector<double> key(const std::byte* at, int slot) const {
        std::vector<double> out;
        for (int d = 0; d < (format.dtype == DType::i8 ? padded() : head_dim); ++d) {
            const int i =
                format.dtype == DType::i8 ? d / 4 * 4 * kPagePositions + slot * 4 + d % 4 : d * kPagePositions + slot;
            out.push_back(number(at, i) * scale(at, slot));
        }
        return out;
    }
    std::vector<double> value(const std::byte* at, int slot) const {
        std::vector<double> out;
        for (int d = 0; d < (format.dtype == DType::i8 ? padded() : head_dim); ++d) {
            const int i = format.dtype == DType::i8 ? slot / 4 * 4 * padded() + d * 4 + slot % 4 : slot * padded() + d;
            out.push_back(number(at, i) * scale(at, slot));
        }
        return out;
    }
};

// x times the rotation of a head of int8 (see CacheFormat), by its definition.
inline std::vector<double> rotated(std::vector<double> x, bool query) {
    x.resize(static_cast<std::size_t>(padded_head(static_cast<int>(x.size()))));
    std::vector<double> out(x.size());
    std::size_t from = 0;
    while (from < x.size()) {
        std::size_t size = 16;
        int log = 4;
        for (; 2 * size <= x.size() - from; size *= 2) ++log;
        for (std::size_t i = 0; i < size; ++i) {
            for (std::size_t j = 0; j < size; ++j) {
                // Sylvester's matrix has -1 where the indices share an odd number of bits.
                out[from + i] += std::popcount(i & j) % 2 == 0 ? x[from + j] : -x[from + j];
            }
            out[from + i] = std::ldexp(out[from + i], query ? log / 2 - log : -(log / 2));
        }
        from += size;
    }
    return out;
}

// Keys and values of one head in pages, with large finite garbage wherever no position was stored.
class Head {
public:
    // `centers`: (segments, head_dim), or none; keys lie around them.
    Head(int length, int head_dim, DType dtype, unsigned seed, float size = 1.0f, std::vector<float> centers = {})
        : keys(Random(seed).floats(length * head_dim, -size, size)),
          values(Random(seed + 1).floats(length * head_dim, -size, size)),
          length_(length),
          head_dim_(head_dim),
          format_(scalar_kernels().cache(dtype)),
          centers_(std::move(centers)) {
        for (int i = 0; !centers_.empty() && i < length * head_dim; ++i)
            keys.data()[i] += center(i / head_dim)[i % head_dim];
        Random garbage(seed + 2);
        for (int p = 0; p * kPagePositions < length; ++p) {
            std::vector<std::byte>& bytes = memory_.emplace_back(page(garbage));
            const int first = p * kPagePositions, rows = std::min(kPagePositions, length - first);
            format_.store({keys.data() + first * head_dim, values.data() + first * head_dim, head_dim, rows, head_dim,
                           0, center(first), nullptr, bytes.data(), bytes.data() + format_.head_bytes(head_dim)});
            pages_.push_back(bytes.data());
        }
    }

    // The same key and value at every position.
    void store_everywhere(const std::vector<float>& key, const std::vector<float>& value) {
        stored_.clear();
        for (int i = 0; i < length_; ++i) {
            std::byte* const page = memory_[static_cast<std::size_t>(i / kPagePositions)].data();
            format_.store({key.data(), value.data(), 0, 1, head_dim_, i % kPagePositions, nullptr, nullptr, page,
                           page + format_.head_bytes(head_dim_)});
        }
    }

    int length() const { return length_; }
    int head_dim() const { return head_dim_; }

    std::vector<float> keys, values;  // (length, head_dim), before they were stored

    // What `ranges.size()` queries see; each row of the result is one output. Checks that nothing else was written.
    std::vector<std::vector<float>> run(const Kernels& kernels, const std::vector<float>& q, const Ranges& ranges,
                                        const Rule& rule) const {
        const int n = static_cast<int>(ranges.size());
        Guarded out(n, head_dim_, head_dim_ + 1);
        call(kernels, q, ranges, rule, -1, [&](int i) { return out.row(i); });
        EXPECT_TRUE(out.intact());
        std::vector<std::vector<float>> rows;
        for (int i = 0; i < n; ++i) rows.emplace_back(out.row(i), out.row(i) + head_dim_);
        return rows;
    }

    // The same for one query, segment by segment, those before its range too.
    std::vector<float> run_by_segments(const Kernels& kernels, const std::vector<float>& q, KeyRange range,
                                       const Rule& rule) const {
        const int n = ceil_div(range.end, kSegmentPositions);
        Guarded parts(n, segment_floats(head_dim_), segment_floats(head_dim_)), out(1, head_dim_, head_dim_);
        for (int s = n - 1; s >= 0; --s) call(kernels, q, {range}, rule, s, [&](int) { return parts.row(s); });
        kernels.attention_merge({parts.row(0), n, head_dim_, data_or_null(rule.sinks), out.row(0)});
        EXPECT_TRUE(parts.intact() && out.intact());
        return {out.row(0), out.row(0) + head_dim_};
    }

    // The definition in double precision on what is stored, and a bound on the kernel's distance from it. Scores: a
    // chain of head_dim roundings and the scaling, each at most eps of size = scale * sum |q k|; they enter the weights
    // by e^error, in numerator and denominator. Weights and their sum: exp's 2 eps, one rounding a value, and 4 a page
    // for the running sum and its rescaling; so too the chain of values. A cap adds the roundings of tanh, 4 of a
    // number up to cap, and a slope one of the biased score. Twice that, for products of errors. In int8 a query's
    // numbers are wrong by half a level, which `rounding` adds to the scores, and a page's weights by half a level of
    // the largest of them.
    void expect_close(const std::vector<float>& out, const float* q, KeyRange range, const Rule& rule) const {
        const bool integers = format_.dtype == DType::i8;
        const PageReader reader{format_, head_dim_};
        std::vector<double> query(q, q + head_dim_);
        if (integers) query = rotated(query, true);
        double most = 0.0;
        for (const double x : query) most = std::max(most, std::abs(x));
        const double half_level = integers ? most / query_levels(head_dim_) / 2 : 0.0;
        const int limit = range.end - range.begin;
        const float slope = rule.slopes.empty() ? 0.0f : rule.slopes[0];
        std::vector<double> scores;
        double top = -HUGE_VAL, size = 0.0, largest = 0.0, rounding = 0.0;
        for (int i = range.begin; i < range.end; ++i) {
            const std::vector<double>& key = stored(reader, i).key;
            double score = 0.0, magnitude = 0.0, wrong = 0.0;
            for (std::size_t d = 0; d < key.size(); ++d) {
                score += query[d] * key[d];
                magnitude += std::abs(query[d] * key[d]);
                wrong += std::abs(key[d]) * half_level;
            }
            for (int d = 0; !centers_.empty() && d < head_dim_; ++d) {
                const double product = static_cast<double>(q[d]) * center(i)[d];
                score += product;
                magnitude += std::abs(product);
            }
            rounding = std::max(rounding, wrong * rule.scale);
            for (const double v : stored(reader, i).value) largest = std::max(largest, std::abs(v));
            score *= rule.scale;
            if (rule.cap > 0.0f) score = rule.cap * std::tanh(score / rule.cap);
            const double bias = static_cast<double>(slope) * (i - (range.end - 1));
            scores.push_back(score + bias);
            top = std::max(top, scores.back());
            size = std::max(size, magnitude * rule.scale + (4 * rule.cap + std::abs(bias)) / (head_dim_ + 2));
        }
        double total = 0.0;
        if (!rule.sinks.empty()) top = std::max(top, static_cast<double>(rule.sinks[0]));
        for (double& s : scores) total += s = std::exp(s - top);
        if (!rule.sinks.empty()) total += std::exp(rule.sinks[0] - top);
        double bound = 2 * kEps * largest * (2 * (head_dim_ + 2) * size + 2 * limit + 10 * (limit / 64.0 + 1));
        bound += 2 * largest * std::expm1(2 * rounding);
        if (integers) bound += 1.01 * weights_error(scores, range, reader) / total;
        std::vector<double> sums(static_cast<std::size_t>(head_dim_));
        for (int i = 0; i < limit; ++i) {
            const std::vector<double>& seen = stored(reader, range.begin + i).value;
            for (std::size_t d = 0; d < sums.size(); ++d) sums[d] += scores[static_cast<std::size_t>(i)] * seen[d];
        }
        for (std::size_t d = 0; d < sums.size(); ++d) {
            ASSERT_NEAR(out[d], sums[d] / total, bound)
                << "range " << range.begin << " to " << range.end << ", dimension " << d;
        }
    }

private:
    const float* center(int position) const {
        return centers_.empty() ? nullptr : centers_.data() + position / kSegmentPositions * head_dim_;
    }
    const std::byte* keys_at(int position) const { return pages_[static_cast<std::size_t>(position / kPagePositions)]; }
    const std::byte* values_at(int position) const { return keys_at(position) + format_.head_bytes(head_dim_); }

    // What a position's key is in its page, and what its value counts as.
    struct Stored {
        std::vector<double> key, value;
    };
    Stored read(const PageReader& reader, int position) const {
        const int slot = position % kPagePositions;
        std::vector<double> value = reader.value(values_at(position), slot);
        if (format_.dtype == DType::i8) value = rotated(value, true);
        value.resize(static_cast<std::size_t>(head_dim_));
        return {reader.key(keys_at(position), slot), value};
    }
    const Stored& stored(const PageReader& reader, int position) const {
        if (stored_.empty()) {
            for (int i = 0; i < length_; ++i) stored_.push_back(read(reader, i));
        }
        return stored_[static_cast<std::size_t>(position)];
    }

    // By how much rounded weights can move a sum of values: turned back, at most sqrt(2 padded) times as much as
    // before.
    double weights_error(const std::vector<double>& weights, KeyRange range, const PageReader& reader) const {
        double sum = 0.0;
        for (int from = range.begin; from < range.end;) {
            const int end = std::min(range.end, (from / kPagePositions + 1) * kPagePositions);
            double most = 0.0;
            for (int i = from; i < end; ++i) {
                most = std::max(most, weights[static_cast<std::size_t>(i - range.begin)] *
                                          reader.scale(values_at(i), i % kPagePositions));
            }
            sum += (end - from) * most / kWeightLevels / 2 * 127 * std::sqrt(2.0 * reader.padded());
            from = end;
        }
        return sum;
    }

    template <class F>
    void call(const Kernels& kernels, const std::vector<float>& q, const Ranges& ranges, const Rule& rule, int segment,
              F output) const {
        const int n = static_cast<int>(ranges.size());
        std::vector<const float*> queries;
        std::vector<float*> outputs;
        for (int i = 0; i < n; ++i) {
            queries.push_back(q.data() + i * head_dim_);
            outputs.push_back(output(i));
        }
        std::vector<float> scratch(attention_scratch(head_dim_), 1e30f);
        const AttentionArgs args{queries.data(),
                                 outputs.data(),
                                 ranges.data(),
                                 n,
                                 head_dim_,
                                 rule.scale,
                                 rule.cap,
                                 data_or_null(rule.slopes),
                                 segment < 0 ? data_or_null(rule.sinks) : nullptr,
                                 pages_.data(),
                                 0,
                                 format_.head_bytes(head_dim_),
                                 center(0),
                                 head_dim_,
                                 segment,
                                 scratch.data()};
        kernels.cache(format_.dtype).attention(args);
    }

    std::vector<std::byte> page(Random& random) const {
        std::vector<std::byte> bytes(2 * format_.head_bytes(head_dim_));
        for (std::size_t at = 0; at < bytes.size(); at += 4) {
            const float x = random.uniform(-65504.0f, 65504.0f);
            const Half halves[2] = {to_half(x), to_half(-x)};
            format_.dtype == DType::f16 ? std::memcpy(bytes.data() + at, halves, 4)
                                        : std::memcpy(bytes.data() + at, &x, 4);
        }
        return bytes;
    }

    int length_, head_dim_;
    const CacheFormat& format_;
    std::vector<float> centers_;
    std::vector<std::vector<std::byte>> memory_;
    std::vector<const std::byte*> pages_;
    mutable std::vector<Stored> stored_;  // of each position, once a result is compared with the definition
};

}  // namespace pygpt::test
