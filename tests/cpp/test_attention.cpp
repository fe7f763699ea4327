// The kernel of attention against a softmax in double.
#include <cstdint>
#include <string>

#include "base/lanes.h"
#include "kernels/table.h"
#include "support.h"

namespace pygpt::test {
namespace {

float stored(float x, DType dtype) { return dtype == DType::f32 ? x : to_float(to_half(x)); }

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

Ranges from_the_start(const std::vector<int>& limits) {
    Ranges ranges;
    for (const int limit : limits) ranges.push_back({0, limit});
    return ranges;
}

const float* data_or_null(const std::vector<float>& v) { return v.empty() ? nullptr : v.data(); }

// Keys and values of one head in pages, with large finite garbage wherever no position was stored.
class Head {
public:
    Head(int length, int head_dim, DType dtype, unsigned seed, float size = 1.0f)
        : keys(Random(seed).floats(length * head_dim, -size, size)),
          values(Random(seed + 1).floats(length * head_dim, -size, size)),
          length_(length),
          head_dim_(head_dim),
          dtype_(dtype),
          padded_(round_up(head_dim, 16)) {
        Random garbage(seed + 2);
        for (int p = 0; p * kPagePositions < length; ++p) memory_.push_back(page(garbage));
        for (int i = 0; i < length; ++i) {
            std::vector<std::byte>& bytes = memory_[static_cast<std::size_t>(i / kPagePositions)];
            const int slot = i % kPagePositions;
            for (int d = 0; d < head_dim; ++d) {
                put(bytes, d * kPagePositions + slot, keys.data()[i * head_dim + d]);
                put(bytes, kPagePositions * head_dim + slot * padded_ + d, values.data()[i * head_dim + d]);
            }
        }
        for (float& x : keys) x = stored(x, dtype);
        for (float& x : values) x = stored(x, dtype);
        for (const auto& bytes : memory_) pages_.push_back(bytes.data());
    }

    int length() const { return length_; }
    int head_dim() const { return head_dim_; }

    std::vector<float> keys, values;  // (length, head_dim), as stored

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

    // The definition in double precision, and a bound on the kernel's distance from it. Scores: a chain of head_dim
    // roundings and the scaling, each at most eps of size = scale * sum |q k|; they enter the weights by e^error, in
    // numerator and denominator. Weights and their sum: exp's 2 eps, one rounding a value, and 4 a page for the running
    // sum and its rescaling; so too the chain of values. A cap adds the roundings of tanh, 4 of a number up to cap, and
    // a slope one of the biased score. Twice that, for products of errors.
    void expect_close(const std::vector<float>& out, const float* q, KeyRange range, const Rule& rule) const {
        const int limit = range.end - range.begin;
        const float slope = rule.slopes.empty() ? 0.0f : rule.slopes[0];
        std::vector<double> scores;
        double top = -HUGE_VAL, size = 0.0, largest = 0.0;
        for (int i = range.begin; i < range.end; ++i) {
            double score = 0.0, magnitude = 0.0;
            for (int d = 0; d < head_dim_; ++d) {
                const double product = static_cast<double>(q[d]) * keys.data()[i * head_dim_ + d];
                score += product;
                magnitude += std::abs(product);
                largest = std::max(largest, std::abs(static_cast<double>(values.data()[i * head_dim_ + d])));
            }
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
        const double bound = 2 * kEps * largest * (2 * (head_dim_ + 2) * size + 2 * limit + 10 * (limit / 64.0 + 1));
        for (int d = 0; d < head_dim_; ++d) {
            double sum = 0.0;
            for (int i = 0; i < limit; ++i)
                sum += scores[static_cast<std::size_t>(i)] * values.data()[(range.begin + i) * head_dim_ + d];
            ASSERT_NEAR(out[static_cast<std::size_t>(d)], sum / total, bound)
                << "range " << range.begin << " to " << range.end << ", dimension " << d;
        }
    }

private:
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
        const std::size_t values_at = static_cast<std::size_t>(kPagePositions * head_dim_) * size_of(dtype_);
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
                                 values_at,
                                 segment,
                                 scratch.data()};
        (dtype_ == DType::f32 ? kernels.attention_f32 : kernels.attention_f16)(args);
    }

    std::vector<std::byte> page(Random& random) const {
        const int n = kPagePositions * (head_dim_ + padded_);
        std::vector<std::byte> bytes(static_cast<std::size_t>(n) * size_of(dtype_));
        const float size = dtype_ == DType::f32 ? 3e38f : 65504.0f;
        for (int i = 0; i < n; ++i) put(bytes, i, random.uniform(-size, size));
        return bytes;
    }
    void put(std::vector<std::byte>& page, int at, float x) const {
        if (dtype_ == DType::f32) {
            reinterpret_cast<float*>(page.data())[at] = x;
        } else {
            reinterpret_cast<Half*>(page.data())[at] = to_half(x);
        }
    }

    int length_, head_dim_;
    DType dtype_;
    int padded_;
    std::vector<std::vector<std::byte>> memory_;
    std::vector<const std::byte*> pages_;
};

void check(const Head& head, const Ranges& ranges, const Rule& rule, unsigned seed) {
    const int n = static_cast<int>(ranges.size()), width = head.head_dim();
    const std::vector<float> q = Random(seed).floats(n * width);
    const auto expected = head.run(scalar_kernels(), q, ranges, rule);
    for (int i = 0; i < n; ++i) {
        const auto at = static_cast<std::size_t>(i);
        head.expect_close(expected[at], q.data() + i * width, ranges[at], rule.alone(at));
    }
    on_each_isa([&](const Kernels& k) {
        const auto found = head.run(k, q, ranges, rule);
        for (std::size_t i = 0; i < found.size(); ++i) {
            EXPECT_TRUE(same_bits(found[i], expected[i])) << "query " << i << " of " << n << ", width " << width;
            const std::vector<float> alone_q(q.begin() + static_cast<int>(i) * width,
                                             q.begin() + static_cast<int>(i + 1) * width);
            EXPECT_EQ(head.run(k, alone_q, {ranges[i]}, rule.alone(i))[0], found[i]) << "query " << i << " alone";
            EXPECT_EQ(head.run_by_segments(k, alone_q, ranges[i], rule.alone(i)), found[i])
                << "query " << i << " by segments";
        }
    });
}

TEST(Attention, IsACausalSoftmaxForEveryWidth) {
    for (const DType dtype : {DType::f32, DType::f16}) {
        for (const int width : {1, 10, 16, 33, 64, 80, 130}) {
            const Head head(200, width, dtype, 20);
            check(head, from_the_start({1, 2, 15, 16, 17, 63, 64, 65, 128, 129, 199, 200}),
                  1.0f / std::sqrt(static_cast<float>(width)), 21);
        }
    }
}

TEST(Attention, AnyNumberOfQueries) {
    const Head head(150, 24, DType::f32, 22);
    for (const int n : {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 19, 40, kMaxAttentionQueries}) {
        std::vector<int> limits;
        for (int i = 0; i < n; ++i) limits.push_back((i * 53 + 7) % 150 + 1);  // not sorted
        check(head, from_the_start(limits), 0.2f, 23);
    }
}

// Limits at the ends of pages and segments, in an order that gives a tile queries of different segments.
TEST(Attention, Segments) {
    const Head head(kSegmentPositions * 3, 20, DType::f16, 30);
    const int s = kSegmentPositions;
    check(head, from_the_start({s, 1, s + 1, 2 * s, s - 1, 2 * s + 1, s + 64, s + 65, 3 * s - 64, 3 * s}), 0.2f, 31);
    for (const int n : {1, 2, 3, 4, 6, 7}) {
        std::vector<int> limits;
        for (int i = 0; i < n; ++i) limits.push_back(3 * s - 100 + i);
        check(head, from_the_start(limits), 0.2f, 32);
    }
}

TEST(Attention, WideScoresUnderflowQuietly) {
    const Head head(130, 16, DType::f32, 24, 30.0f);
    check(head, from_the_start({1, 40, 70, 130}), 1.0f, 25);
}

TEST(Attention, OnePositionGivesItsValue) {
    const Head head(1, 10, DType::f32, 26);
    on_each_isa(
        [&](const Kernels& k) { EXPECT_EQ(head.run(k, Random(27).floats(10), {{0, 1}}, 0.3f)[0], head.values); });
}

// Ranges that begin and end anywhere in pages and segments: a tile has queries that skip different pages, and some see
// nothing of a segment.
TEST(Attention, RangesOfKeys) {
    constexpr int s = kSegmentPositions, length = 3 * s + 70;
    for (const DType dtype : {DType::f32, DType::f16}) {
        const Head head(length, 20, dtype, 50);
        check(head,
              {{2 * s + 3, 2 * s + 5}, {0, 1}, {s - 1, s + 1}, {s, s + 1}, {63, 64}, {64, 2 * s}, {3 * s, length}},
              0.3f, 51);
        for (const int window : {1, 2, 16, 17, 63, 64, 65, s, s + 1, 2 * s}) {
            for (const int n : {1, 2, 5, 6, 7, 40}) {
                Ranges ranges;
                for (int end = length - n; end < length; ++end) ranges.push_back({std::max(0, end - window), end});
                check(head, ranges, 0.3f, 52);
            }
        }
    }
}

TEST(Attention, CapsSlopesAndSinks) {
    const int n = 9, length = kSegmentPositions + 90;
    Ranges whole, windows;
    std::vector<float> slopes, sinks;
    for (int i = 0; i < n; ++i) {
        whole.push_back({0, length - 17 * i});
        windows.push_back({std::max(0, length - 17 * i - 70), length - 17 * i});
        slopes.push_back(0.5f / static_cast<float>(1 << i));
        sinks.push_back(static_cast<float>(i - 4) * 3.0f);
    }
    for (const float size : {1.0f, 8.0f}) {
        const Head head(length, 33, DType::f16, 53, size);
        for (const Ranges& ranges : {whole, windows}) {
            for (const float cap : {0.0f, 0.5f, 50.0f}) {
                check(head, ranges, Rule(0.25f, cap, slopes, sinks), 54);
                check(head, ranges, Rule(0.25f, cap, {}, sinks), 55);
                check(head, ranges, Rule(0.25f, cap, slopes), 56);
            }
        }
    }
}

// A rule that changes nothing takes the general way to the plain one's bits.
TEST(Attention, ARuleWithoutEffectGivesThePlainBits) {
    const Head head(kSegmentPositions + 40, 24, DType::f32, 57);
    const std::vector<float> q = Random(58).floats(2 * 24), flat(2, 0.0f);
    const Ranges ranges{{0, 30}, {0, head.length()}};
    on_each_isa([&](const Kernels& k) {
        EXPECT_EQ(head.run(k, q, ranges, Rule(0.3f, 0.0f, flat)), head.run(k, q, ranges, 0.3f));
    });
}

// What stands at and after the limit must not matter: here it is another sequence's keys instead of garbage.
TEST(Attention, PositionsAfterTheLimitDoNotMatter) {
    const Head longer(128, 20, DType::f32, 28);
    const std::vector<float> q = Random(29).floats(20);
    for (const int limit : {1, 30, 64, 65, 100}) {
        const Head cut(limit, 20, DType::f32, 28);  // the random numbers of `longer` begin with these
        ASSERT_TRUE(std::equal(cut.keys.begin(), cut.keys.end(), longer.keys.begin()));
        EXPECT_EQ(cut.run(scalar_kernels(), q, {{0, limit}}, 0.5f),
                  longer.run(scalar_kernels(), q, {{0, limit}}, 0.5f));
    }
}

}  // namespace
}  // namespace pygpt::test
