// The kernel of attention against a softmax in double.
#include <limits>

#include "support_attention.h"

namespace pygpt::test {
namespace {

constexpr std::array kCaches = {DType::f32, DType::f16, DType::i8};

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
    for (const DType dtype : kCaches) {
        for (const int width : {1, 10, 16, 33, 64, 80, 130}) {
            const Head head(200, width, dtype, 20);
            check(head, from_the_start({1, 2, 15, 16, 17, 63, 64, 65, 128, 129, 199, 200}),
                  1.0f / std::sqrt(static_cast<float>(width)), 21);
        }
    }
}

TEST(Attention, AnyNumberOfQueries) {
    for (const DType dtype : kCaches) {
        const Head head(150, 24, dtype, 22);
        for (const int n : {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 19, 40, kMaxAttentionQueries}) {
            std::vector<int> limits;
            for (int i = 0; i < n; ++i) limits.push_back((i * 53 + 7) % 150 + 1);  // not sorted
            check(head, from_the_start(limits), 0.2f, 23);
        }
    }
}

// Limits at the ends of pages and segments, in an order that gives a tile queries of different segments.
TEST(Attention, Segments) {
    const int s = kSegmentPositions;
    for (const DType dtype : {DType::f16, DType::i8}) {
        const Head head(kSegmentPositions * 3, 20, dtype, 30);
        check(head, from_the_start({s, 1, s + 1, 2 * s, s - 1, 2 * s + 1, s + 64, s + 65, 3 * s - 64, 3 * s}), 0.2f,
              31);
        for (const int n : {1, 2, 3, 4, 6, 7, 8, 12, 13}) {
            std::vector<int> limits;
            for (int i = 0; i < n; ++i) limits.push_back(3 * s - 100 + i);
            check(head, from_the_start(limits), 0.2f, 32);
        }
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
    for (const DType dtype : kCaches) {
        const Head head(length, 20, dtype, 50);
        check(head,
              {{2 * s + 3, 2 * s + 5}, {0, 1}, {s - 1, s + 1}, {s, s + 1}, {63, 64}, {64, 2 * s}, {3 * s, length}},
              0.3f, 51);
        for (const int window : {1, 2, 16, 17, 63, 64, 65, s, s + 1, 2 * s}) {
            for (const int n : {1, 2, 5, 6, 7, 12, 13, 40}) {
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
    for (const auto& [dtype, size] : {std::pair{DType::f16, 1.0f}, {DType::f16, 8.0f}, {DType::i8, 1.0f}}) {
        const Head head(length, 33, dtype, 53, size);
        for (const Ranges& ranges : {whole, windows}) {
            for (const float cap : {0.0f, 0.5f, 50.0f}) {
                check(head, ranges, Rule(0.25f, cap, slopes, sinks), 54);
                check(head, ranges, Rule(0.25f, cap, {}, sinks), 55);
                check(head, ranges, Rule(0.25f, cap, slopes), 56);
            }
        }
    }
}

// Many queries of heads that are whole tiles wide, which tiles of integers take 16 at a time: the bits of the others.
// One of them is not a number.
TEST(Attention, ManyQueriesOfWideHeads) {
    const int length = 2 * kSegmentPositions + 90;
    const std::vector<int> all = {13, 16, 17, 29, 45, kMaxAttentionQueries};
    for (const int width : {50, 64, 128, 192, 256}) {
        const Head head(length, width, DType::i8, 60, 1.0f, Random(62).floats(3 * width, -20.0f, 20.0f));
        const float scale = 8.0f / std::sqrt(static_cast<float>(width));
        for (const int n : !kSlow || width == 64 ? all : std::vector{29, kMaxAttentionQueries}) {
            Ranges unsorted, causal, windows;
            std::vector<float> slopes, sinks;
            for (int i = 0; i < n; ++i) {
                const int end = length - n + 1 + i;
                unsorted.push_back({0, (i * 53 + 7) % length + 1});
                causal.push_back({0, end});
                windows.push_back({std::max(0, end - 1 - i * 37 % 200), end});
                slopes.push_back(0.5f / static_cast<float>(1 << i % 16));
                sinks.push_back(static_cast<float>(i % 9 - 4) * 3.0f);
            }
            std::vector<float> q = Random(61).floats(n * width);
            q[static_cast<std::size_t>(5 * width)] = std::numeric_limits<float>::quiet_NaN();
            for (const Ranges& ranges : {unsorted, causal, windows}) {
                for (const Rule& rule : {Rule(scale), Rule(scale, 0.5f, slopes, sinks)}) {
                    const auto expected = head.run(scalar_kernels(), q, ranges, rule);
                    on_each_isa([&](const Kernels& k) {
                        const auto found = head.run(k, q, ranges, rule);
                        for (std::size_t i = 0; i < found.size(); ++i)
                            EXPECT_TRUE(same_bits(found[i], expected[i])) << "query " << i << " of " << n;
                    });
                }
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
