// Attention: the kernel against a double softmax, and the operation that splits it over heads and threads.
#include <cstdint>
#include <string>

#include "model/kv_cache.h"
#include "ops/attention.h"
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
        const int pages = (length + 63) / 64;
        for (int p = 0; p < pages; ++p) {
            key_bytes_.push_back(page(64 * head_dim, garbage));
            value_bytes_.push_back(page(64 * padded_, garbage));
        }
        for (int i = 0; i < length; ++i) {
            for (int d = 0; d < head_dim; ++d) {
                const int slot = i % 64;
                put(key_bytes_[static_cast<std::size_t>(i / 64)], (slot / 16 * head_dim + d) * 16 + slot % 16,
                    keys.data()[i * head_dim + d]);
                put(value_bytes_[static_cast<std::size_t>(i / 64)], (d / 16 * 64 + slot) * 16 + d % 16,
                    values.data()[i * head_dim + d]);
            }
        }
        for (float& x : keys) x = stored(x, dtype);
        for (float& x : values) x = stored(x, dtype);
        for (int p = 0; p < pages; ++p) {
            key_pages.push_back(key_bytes_[static_cast<std::size_t>(p)].data());
            value_pages.push_back(value_bytes_[static_cast<std::size_t>(p)].data());
        }
    }

    int length() const { return length_; }
    int head_dim() const { return head_dim_; }

    std::vector<float> keys, values;  // (length, head_dim), as stored
    std::vector<const void*> key_pages, value_pages;

    // What `limits.size()` queries see; each row of the result is one output. Checks that nothing else was written.
    std::vector<std::vector<float>> run(const Kernels& kernels, const std::vector<float>& q, std::vector<int> limits,
                                        float scale) const {
        const int n = static_cast<int>(limits.size());
        Guarded out(n, head_dim_, head_dim_ + 1);
        std::vector<const float*> queries;
        std::vector<float*> outputs;
        for (int i = 0; i < n; ++i) {
            queries.push_back(q.data() + i * head_dim_);
            outputs.push_back(out.row(i));
        }
        std::vector<float> scratch(attention_scratch(head_dim_), 1e30f);
        (dtype_ == DType::f32 ? kernels.attention_f32
                              : kernels.attention_f16)({queries.data(), outputs.data(), limits.data(), n, head_dim_,
                                                        scale, key_pages.data(), value_pages.data(), scratch.data()});
        EXPECT_TRUE(out.intact());
        std::vector<std::vector<float>> rows;
        for (int i = 0; i < n; ++i) rows.emplace_back(out.row(i), out.row(i) + head_dim_);
        return rows;
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
    std::vector<std::byte> page(int n, Random& random) const {
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
    std::vector<std::vector<std::byte>> key_bytes_, value_bytes_;
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
    for (int n = 1; n <= kMaxAttentionQueries; ++n) {
        std::vector<int> limits;
        for (int i = 0; i < n; ++i) limits.push_back((i * 53 + 7) % 150 + 1);  // not sorted
        check(head, limits, 0.2f, 23);
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

// Two sequences of different lengths in one call, grouped-query heads: every output is what the kernel gives for its
// own query alone, on any number of threads.
TEST(Attention, SplitOverHeadsAndThreadsGivesTheSame) {
    constexpr int kHeads = 6, kKvHeads = 2, kWidth = 12, kLayer = 1;
    ModelConfig config;
    config.n_layer = 2;
    config.n_kv_head = kKvHeads;
    config.head_dim = kWidth;
    for (const DType dtype : {DType::f32, DType::f16}) {
        const PageLayout layout(config, dtype);
        struct Sequence {
            int past, rows;
            std::vector<Buffer> memory;
            std::vector<std::byte*> pages;
        };
        std::vector<Sequence> sequences;
        for (const auto& [past, rows] : {std::pair{0, 70}, {63, 1}, {130, 9}, {5, 3}})
            sequences.push_back({past, rows, {}, {}});
        int total = 0;
        std::vector<AttentionSequence> parts;
        for (Sequence& s : sequences) {
            for (int p = 0; p * 64 < s.past + s.rows; ++p) {
                s.memory.emplace_back(layout.page_bytes());
                s.pages.push_back(s.memory.back().data());
                Random random(static_cast<unsigned>(40 + p + s.past));
                const auto n = static_cast<std::ptrdiff_t>(layout.page_bytes() / size_of(dtype));
                for (std::ptrdiff_t i = 0; i < n; ++i) {
                    const float x = random.uniform(-1.0f, 1.0f);
                    if (dtype == DType::f32) s.memory.back().as<float>()[i] = x;
                    if (dtype == DType::f16) s.memory.back().as<Half>()[i] = to_half(x);
                }
            }
            parts.push_back({total, s.rows, s.past, s.pages});
            total += s.rows;
        }
        const int ldq = kHeads * kWidth + 4;
        const std::vector<float> q = Random(41).floats(total * ldq);
        for (const int count : {1, 2, 5}) {
            const Kernels& kernels = best_kernels();
            Guarded out(total, kHeads * kWidth, kHeads * kWidth + 9);
            std::vector<float> scratch(attention_scratch(kWidth) * static_cast<std::size_t>(count));
            const AttentionCall call{parts,
                                     kHeads,
                                     kKvHeads,
                                     kWidth,
                                     dtype,
                                     layout.keys(kLayer, 0),
                                     layout.values(kLayer, 0),
                                     layout.keys(0, 1),
                                     0.4f,
                                     q.data(),
                                     ldq,
                                     out.row(0),
                                     out.ld(),
                                     scratch.data()};
            with_team(count, [&](Team& team) { attention(kernels, team, call); });
            EXPECT_TRUE(out.intact());
            for (const AttentionSequence& s : parts) {
                for (int i = 0; i < s.n_rows * kHeads; ++i) {
                    const int row = s.first_row + i / kHeads, head = i % kHeads, kv_head = head / (kHeads / kKvHeads);
                    std::vector<const void*> keys, values;
                    for (const std::byte* page : s.pages) {
                        keys.push_back(page + layout.keys(kLayer, kv_head));
                        values.push_back(page + layout.values(kLayer, kv_head));
                    }
                    const float* query = q.data() + row * ldq + head * kWidth;
                    float expected[kWidth];
                    float* output = expected;
                    const int limit = s.first_position + i / kHeads + 1;
                    (dtype == DType::f32 ? kernels.attention_f32 : kernels.attention_f16)(
                        {&query, &output, &limit, 1, kWidth, 0.4f, keys.data(), values.data(), scratch.data()});
                    const float* found = out.row(row) + head * kWidth;
                    ASSERT_TRUE(std::equal(found, found + kWidth, expected)) << "row " << row << ", head " << head;
                }
            }
        }
    }
}

}  // namespace
}  // namespace pygpt::test
