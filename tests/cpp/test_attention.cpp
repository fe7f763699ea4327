// Attention: the kernel against a double softmax, and the operation that splits it over heads and threads.
#include <cstdint>
#include <string>

#include "model/kv_cache.h"
#include "ops/paged_attention.h"
#include "support.h"

namespace pygpt::test {
namespace {

float stored(float x, DType dtype) { return dtype == DType::f32 ? x : to_float(to_half(x)); }

// Keys and values of one head in pages, with large finite garbage wherever no position was stored.
class Head {
public:
    Head(int length, int head_dim, DType dtype, unsigned seed, float size = 1.0f)
        : keys(Random(seed).floats(length * head_dim, -size, size)),
          values(Random(seed + 1).floats(length * head_dim, -size, size)),
          length_(length),
          head_dim_(head_dim),
          dtype_(dtype),
          padded_((head_dim + 15) / 16 * 16) {
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

    // What `limits.size()` queries see; each row of the result is one output. Checks that nothing else was written.
    std::vector<std::vector<float>> run(const Kernels& kernels, const std::vector<float>& q,
                                        const std::vector<int>& limits, float scale) const {
        const int n = static_cast<int>(limits.size());
        Guarded out(n, head_dim_, head_dim_ + 1);
        call(kernels, q, limits, scale, -1, [&](int i) { return out.row(i); });
        EXPECT_TRUE(out.intact());
        std::vector<std::vector<float>> rows;
        for (int i = 0; i < n; ++i) rows.emplace_back(out.row(i), out.row(i) + head_dim_);
        return rows;
    }

    // The same for one query, segment by segment.
    std::vector<float> run_by_segments(const Kernels& kernels, const std::vector<float>& q, int limit,
                                       float scale) const {
        const int n = (limit + kSegmentPositions - 1) / kSegmentPositions;
        Guarded parts(n, segment_floats(head_dim_), segment_floats(head_dim_)), out(1, head_dim_, head_dim_);
        for (int s = n - 1; s >= 0; --s) call(kernels, q, {limit}, scale, s, [&](int) { return parts.row(s); });
        kernels.attention_merge({parts.row(0), n, head_dim_, out.row(0)});
        EXPECT_TRUE(parts.intact() && out.intact());
        return {out.row(0), out.row(0) + head_dim_};
    }

    // The definition in double precision, and a bound on the kernel's distance from it. Scores: a chain of head_dim
    // roundings and the scaling, each at most eps of size = scale * sum |q k|; they enter the weights by e^error, in
    // numerator and denominator. Weights and their sum: exp's 2 eps, one rounding a value, and 4 a page for the running
    // sum and its rescaling; so too the chain of values. Twice that, for products of errors.
    void expect_close(const std::vector<float>& out, const float* q, int limit, float scale) const {
        std::vector<double> scores;
        double top = -HUGE_VAL, size = 0.0, largest = 0.0;
        for (int i = 0; i < limit; ++i) {
            double score = 0.0, magnitude = 0.0;
            for (int d = 0; d < head_dim_; ++d) {
                const double product = static_cast<double>(q[d]) * keys.data()[i * head_dim_ + d];
                score += product;
                magnitude += std::abs(product);
                largest = std::max(largest, std::abs(static_cast<double>(values.data()[i * head_dim_ + d])));
            }
            scores.push_back(score * scale);
            top = std::max(top, scores.back());
            size = std::max(size, magnitude * scale);
        }
        double total = 0.0;
        for (double& s : scores) total += s = std::exp(s - top);
        const double bound = 2 * kEps * largest * (2 * (head_dim_ + 2) * size + 2 * limit + 10 * (limit / 64.0 + 1));
        for (int d = 0; d < head_dim_; ++d) {
            double sum = 0.0;
            for (int i = 0; i < limit; ++i)
                sum += scores[static_cast<std::size_t>(i)] * values.data()[i * head_dim_ + d];
            ASSERT_NEAR(out[static_cast<std::size_t>(d)], sum / total, bound)
                << "limit " << limit << ", dimension " << d;
        }
    }

private:
    template <class F>
    void call(const Kernels& kernels, const std::vector<float>& q, const std::vector<int>& limits, float scale,
              int segment, F output) const {
        const int n = static_cast<int>(limits.size());
        std::vector<const float*> queries;
        std::vector<float*> outputs;
        for (int i = 0; i < n; ++i) {
            queries.push_back(q.data() + i * head_dim_);
            outputs.push_back(output(i));
        }
        std::vector<float> scratch(attention_scratch(head_dim_), 1e30f);
        const std::size_t values_at = static_cast<std::size_t>(kPagePositions * head_dim_) * size_of(dtype_);
        const AttentionArgs args{queries.data(), outputs.data(), limits.data(), n, head_dim_, scale, pages_.data(), 0,
                                 values_at,      segment,        scratch.data()};
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

void check(const Head& head, const std::vector<int>& limits, float scale, unsigned seed) {
    const int n = static_cast<int>(limits.size()), width = head.head_dim();
    const std::vector<float> q = Random(seed).floats(n * width);
    const auto expected = head.run(scalar_kernels(), q, limits, scale);
    for (int i = 0; i < n; ++i) {
        head.expect_close(expected[static_cast<std::size_t>(i)], q.data() + i * width,
                          limits[static_cast<std::size_t>(i)], scale);
    }
    on_each_isa([&](const Kernels& k) {
        const auto found = head.run(k, q, limits, scale);
        for (std::size_t i = 0; i < found.size(); ++i) {
            EXPECT_TRUE(same_bits(found[i], expected[i])) << "query " << i << " of " << n << ", width " << width;
            const std::vector<float> alone_q(q.begin() + static_cast<int>(i) * width,
                                             q.begin() + static_cast<int>(i + 1) * width);
            EXPECT_EQ(head.run(k, alone_q, {limits[i]}, scale)[0], found[i]) << "query " << i << " alone";
            EXPECT_EQ(head.run_by_segments(k, alone_q, limits[i], scale), found[i]) << "query " << i << " by segments";
        }
    });
}

TEST(Attention, IsACausalSoftmaxForEveryWidth) {
    for (const DType dtype : {DType::f32, DType::f16}) {
        for (const int width : {1, 10, 16, 33, 64, 80, 130}) {
            const Head head(200, width, dtype, 20);
            check(head, {1, 2, 15, 16, 17, 63, 64, 65, 128, 129, 199, 200}, 1.0f / std::sqrt(static_cast<float>(width)),
                  21);
        }
    }
}

TEST(Attention, AnyNumberOfQueries) {
    const Head head(150, 24, DType::f32, 22);
    for (const int n : {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 19, 40, kMaxAttentionQueries}) {
        std::vector<int> limits;
        for (int i = 0; i < n; ++i) limits.push_back((i * 53 + 7) % 150 + 1);  // not sorted
        check(head, limits, 0.2f, 23);
    }
}

// Limits at the ends of pages and segments, in an order that gives a tile queries of different segments.
TEST(Attention, Segments) {
    const Head head(kSegmentPositions * 3, 20, DType::f16, 30);
    const int s = kSegmentPositions;
    check(head, {s, 1, s + 1, 2 * s, s - 1, 2 * s + 1, s + 64, s + 65, 3 * s - 64, 3 * s}, 0.2f, 31);
    for (const int n : {1, 2, 3, 4, 6, 7}) {
        std::vector<int> limits;
        for (int i = 0; i < n; ++i) limits.push_back(3 * s - 100 + i);
        check(head, limits, 0.2f, 32);
    }
}

TEST(Attention, WideScoresUnderflowQuietly) {
    const Head head(130, 16, DType::f32, 24, 30.0f);
    check(head, {1, 40, 70, 130}, 1.0f, 25);
}

TEST(Attention, OnePositionGivesItsValue) {
    const Head head(1, 10, DType::f32, 26);
    on_each_isa([&](const Kernels& k) { EXPECT_EQ(head.run(k, Random(27).floats(10), {1}, 0.3f)[0], head.values); });
}

// What stands at and after the limit must not matter: here it is another sequence's keys instead of garbage.
TEST(Attention, PositionsAfterTheLimitDoNotMatter) {
    const Head longer(128, 20, DType::f32, 28);
    const std::vector<float> q = Random(29).floats(20);
    for (const int limit : {1, 30, 64, 65, 100}) {
        const Head cut(limit, 20, DType::f32, 28);  // the random numbers of `longer` begin with these
        ASSERT_TRUE(std::equal(cut.keys.begin(), cut.keys.end(), longer.keys.begin()));
        EXPECT_EQ(cut.run(scalar_kernels(), q, {limit}, 0.5f), longer.run(scalar_kernels(), q, {limit}, 0.5f));
    }
}

// Sequences of different lengths in one call, grouped-query heads: every output is what the kernel gives for its own
// query alone, on any number of threads, whether their segments are split over the threads or not.
class Sequences {
public:
    static constexpr int kHeads = 6, kKvHeads = 3, kWidth = 12, kLayer = 1, kContext = 600;

    Sequences(DType dtype, const std::vector<std::pair<int, int>>& past_and_rows)
        : dtype_(dtype), layout_(config(), dtype) {
        for (const auto& [past, rows] : past_and_rows) {
            std::vector<std::byte*>& pages = pages_.emplace_back();
            for (int p = 0; p * kPagePositions < past + rows; ++p) {
                Buffer& page = memory_.emplace_back(layout_.page_bytes());
                pages.push_back(page.data());
                Random random(static_cast<unsigned>(40 + p + past));
                const auto n = static_cast<std::ptrdiff_t>(layout_.page_bytes() / size_of(dtype));
                for (std::ptrdiff_t i = 0; i < n; ++i) {
                    const float x = random.uniform(-1.0f, 1.0f);
                    if (dtype == DType::f32) page.as<float>()[i] = x;
                    if (dtype == DType::f16) page.as<Half>()[i] = to_half(x);
                }
            }
        }
        for (std::size_t i = 0; i < pages_.size(); ++i) {
            parts_.push_back({total_, past_and_rows[i].second, past_and_rows[i].first, pages_[i]});
            total_ += past_and_rows[i].second;
        }
        q_ = Random(41).floats(total_ * kLdq);
    }

    void check(int threads, bool room_to_split) const {
        const Kernels& kernels = best_kernels();
        Guarded out(total_, kHeads * kWidth, kHeads * kWidth + 9);
        std::vector<float> scratch(attention_scratch(kWidth) * static_cast<std::size_t>(threads) +
                                   (room_to_split ? split_floats(total_, kHeads, kWidth, kContext, threads) : 0));
        const AttentionCall call{parts_,
                                 kHeads,
                                 kKvHeads,
                                 kWidth,
                                 dtype_,
                                 layout_.keys(kLayer, 0),
                                 layout_.values(kLayer, 0),
                                 layout_.keys(0, 1),
                                 kScale,
                                 q_.data(),
                                 kLdq,
                                 out.row(0),
                                 out.ld(),
                                 scratch};
        with_team(threads, [&](Team& team) { paged_attention(kernels, team, call); });
        EXPECT_TRUE(out.intact());
        for (const AttentionSequence& s : parts_) {
            for (int i = 0; i < s.n_rows * kHeads; ++i) {
                const int row = s.first_row + i / kHeads, head = i % kHeads;
                const std::vector<float> expected = alone(kernels, s, row, head);
                const float* found = out.row(row) + head * kWidth;
                ASSERT_TRUE(std::equal(found, found + kWidth, expected.begin())) << "row " << row << ", head " << head;
            }
        }
    }

private:
    static constexpr int kLdq = kHeads * kWidth + 4;
    static constexpr float kScale = 0.4f;

    static ModelConfig config() {
        ModelConfig c;
        c.layers.resize(2);
        c.n_kv_head = kKvHeads;
        c.head_dim = kWidth;
        return c;
    }

    std::vector<float> alone(const Kernels& kernels, const AttentionSequence& s, int row, int head) const {
        const int kv_head = head / (kHeads / kKvHeads), limit = s.first_position + row - s.first_row + 1;
        const float* query = q_.data() + row * kLdq + head * kWidth;
        std::vector<float> expected(kWidth), scratch(attention_scratch(kWidth));
        float* output = expected.data();
        (dtype_ == DType::f32 ? kernels.attention_f32 : kernels.attention_f16)(
            {&query, &output, &limit, 1, kWidth, kScale, s.pages.data(), layout_.keys(kLayer, kv_head),
             layout_.values(kLayer, kv_head), -1, scratch.data()});
        return expected;
    }

    DType dtype_;
    PageLayout layout_;
    int total_ = 0;
    std::vector<Buffer> memory_;
    std::vector<std::vector<std::byte*>> pages_;
    std::vector<AttentionSequence> parts_;
    std::vector<float> q_;
};

TEST(Attention, SplitOverHeadsAndThreadsGivesTheSame) {
    for (const DType dtype : {DType::f32, DType::f16}) {
        const Sequences prompts(dtype, {{0, 70}, {63, 1}, {130, 9}, {5, 3}});
        for (const int threads : {1, 2, 5}) prompts.check(threads, true);
        const Sequences one(dtype, {{550, 1}}), two(dtype, {{300, 2}, {599, 1}});
        for (const int threads : {1, 2, 5}) {
            for (const bool room : {false, true}) {
                one.check(threads, room);
                two.check(threads, room);
            }
        }
    }
}

}  // namespace
}  // namespace pygpt::test
