// int8 keys and values: how they are rounded, and what becomes of numbers that are not finite.
#include <algorithm>
#include <cstring>
#include <limits>

#include "support_attention.h"

namespace pygpt::test {
namespace {

using Bytes = std::vector<std::byte>;

// Keys and values (rows, head_dim) in the slots slot ... of a page whose other bytes are `before`.
Bytes stored(const CacheFormat& format, const std::vector<float>& keys, const std::vector<float>& values, int head_dim,
             int slot, std::byte before = std::byte{0}) {
    Bytes page(2 * format.head_bytes(head_dim), before);
    const int rows = static_cast<int>(keys.size()) / head_dim;
    format.store({keys.data(), values.data(), head_dim, rows, head_dim, slot, nullptr, nullptr, page.data(),
                  page.data() + format.head_bytes(head_dim)});
    return page;
}

std::vector<double> row(const std::vector<float>& x, int head_dim, int i) {
    return {x.begin() + i * head_dim, x.begin() + (i + 1) * head_dim};
}

// Half a step of the largest magnitude over 127, and the roundings of rotation, scale and product.
void expect_rounded(const std::vector<double>& found, std::vector<double> exact) {
    double most = 0.0;
    exact.resize(found.size());
    for (const double x : exact) most = std::max(most, std::abs(x));
    for (std::size_t i = 0; i < found.size(); ++i)
        ASSERT_NEAR(found[i], exact[i], most / 127 * (0.5 + 127 * 16 * kEps));
}

TEST(CacheInt8, RoundsRotatedKeysAndValuesByPosition) {
    for (const int head_dim : {1, 4, 8, 16, 33, 64, 80, 96, 128, 192, 256}) {
        const int rows = 21, slot = 30;
        const std::vector<float> keys = Random(1).floats(rows * head_dim, -3.0f, 3.0f);
        const std::vector<float> values = Random(2).floats(rows * head_dim, -0.1f, 0.1f);
        const CacheFormat& format = scalar_kernels().cache(DType::i8);
        const Bytes page = stored(format, keys, values, head_dim, slot);
        const PageReader reader{format, head_dim};
        for (int i = 0; i < rows; ++i) {
            expect_rounded(reader.key(page.data(), slot + i), rotated(row(keys, head_dim, i), false));
            expect_rounded(reader.value(page.data() + format.head_bytes(head_dim), slot + i),
                           rotated(row(values, head_dim, i), false));
        }
        on_each_isa([&](const Kernels& k) {
            EXPECT_EQ(stored(k.cache(DType::i8), keys, values, head_dim, slot), page) << head_dim;
        });
    }
}

// The product of a rotated query and a rotated key is theirs.
TEST(CacheInt8, RotationKeepsProducts) {
    for (const int head_dim : {1, 16, 20, 80, 96, 128}) {
        const std::vector<double> q = row(Random(3).floats(head_dim), head_dim, 0);
        const std::vector<double> k = row(Random(4).floats(head_dim), head_dim, 0);
        const std::vector<double> turned_q = rotated(q, true), turned_k = rotated(k, false);
        double plain = 0.0, turned = 0.0;
        for (std::size_t d = 0; d < q.size(); ++d) plain += q[d] * k[d];
        for (std::size_t d = 0; d < turned_q.size(); ++d) turned += turned_q[d] * turned_k[d];
        EXPECT_NEAR(turned, plain, 1e-12) << head_dim;
    }
}

// A position's bytes are its own: written alone or with others, other slots keep theirs.
TEST(CacheInt8, APositionTouchesItsOwnBytesOnly) {
    const int head_dim = 20;
    const std::vector<float> keys = Random(5).floats(64 * head_dim), values = Random(6).floats(64 * head_dim);
    on_each_isa([&](const Kernels& k) {
        const CacheFormat& format = k.cache(DType::i8);
        const Bytes whole = stored(format, keys, values, head_dim, 0);
        Bytes one_by_one(whole.size(), std::byte{0x55});
        for (int i = 63; i >= 0; --i) {
            format.store({keys.data() + i * head_dim, values.data() + i * head_dim, head_dim, 1, head_dim, i, nullptr,
                          nullptr, one_by_one.data(), one_by_one.data() + format.head_bytes(head_dim)});
        }
        EXPECT_EQ(one_by_one, whole);
    });
}

TEST(CacheInt8, WhatIsNotFiniteCountsAsZero) {
    const int head_dim = 20;
    const std::vector<float> zeros(head_dim);
    const Bytes nothing = stored(scalar_kernels().cache(DType::i8), zeros, zeros, head_dim, 7);
    for (const float bad : {HUGE_VALF, -HUGE_VALF, std::nanf(""), 3.4e38f, 1e-38f}) {
        std::vector<float> keys(head_dim, std::abs(bad) < 1.0f ? 0.0f : bad), values = zeros;
        keys[3] = bad;
        if (bad != 3.4e38f) values[5] = bad;
        on_each_isa([&](const Kernels& k) {
            EXPECT_EQ(stored(k.cache(DType::i8), keys, values, head_dim, 7), nothing) << bad;
        });
    }
}

TEST(CacheInt8, AQueryThatIsNotFiniteSpoilsItselfAlone) {
    const int head_dim = 24;
    const Head head(100, head_dim, DType::i8, 8);
    std::vector<float> q = Random(9).floats(3 * head_dim);
    const std::vector<float> alone(q.begin() + 2 * head_dim, q.end());
    q[static_cast<std::size_t>(head_dim)] = HUGE_VALF;
    on_each_isa([&](const Kernels& k) {
        const auto found = head.run(k, q, from_the_start({100, 90, 80}), 0.3f);
        for (const float x : found[1]) EXPECT_TRUE(std::isnan(x));
        EXPECT_EQ(found[2], head.run(k, alone, {{0, 80}}, 0.3f)[0]);
    });
}

// Keys around centers a hundred times as large as they differ: what is rounded is the difference.
TEST(CacheInt8, CentersAreNotRounded) {
    for (const int head_dim : {20, 64}) {
        const int length = 2 * kSegmentPositions + 30;
        const Head head(length, head_dim, DType::i8, 11, 1.0f, Random(12).floats(3 * head_dim, -100.0f, 100.0f));
        const std::vector<float> q = Random(13).floats(head_dim);
        const Rule rule(0.05f, 0.0f, {}, {3.0f});
        for (const KeyRange range : {KeyRange{0, length}, {200, 400}, {0, 70}}) {
            const auto expected = head.run(scalar_kernels(), q, {range}, rule)[0];
            head.expect_close(expected, q.data(), range, rule);
            on_each_isa([&](const Kernels& k) {
                EXPECT_EQ(head.run(k, q, {range}, rule)[0], expected);
                EXPECT_EQ(head.run_by_segments(k, q, range, rule), expected);
            });
        }
    }
}

// What feedback leaves of the errors is one rounding each; the largest numbers may have no room for it.
TEST(CacheInt8, FeedbackIsTakenOffTheNumbersThatFollow) {
    const int slot = 7, rows = 9;
    for (const int head_dim : {10, 64, 80}) {
        const int padded = padded_head(head_dim);
        const CacheFormat& format = scalar_kernels().cache(DType::i8);
        const PageReader reader{format, head_dim};
        std::vector<float> keys = Random(20).floats(rows * head_dim),
                           feedback = Random(21).floats(padded * padded, -0.2f, 0.2f);
        for (int i = 0; i < padded; ++i) {
            for (int j = 0; j <= i; ++j) feedback[static_cast<std::size_t>(i * padded + j)] = 0.0f;
        }
        keys[static_cast<std::size_t>(3 * head_dim)] = std::numeric_limits<float>::infinity();
        const auto page_of = [&](const CacheFormat& f, const float* matrix) {
            Bytes page(2 * format.head_bytes(head_dim));
            f.store({keys.data(), keys.data(), head_dim, rows, head_dim, slot, nullptr, matrix, page.data(),
                     page.data() + format.head_bytes(head_dim)});
            return page;
        };
        const Bytes page = page_of(format, feedback.data());
        int checked = 0;
        for (int i = 0; i < rows; ++i) {
            const float scale = reader.scale(page.data(), slot + i);
            if (i == 3) {
                EXPECT_EQ(scale, 0.0f);
                continue;
            }
            const std::vector<double> found = reader.key(page.data(), slot + i);
            const std::vector<double> exact = rotated(row(keys, head_dim, i), false);
            for (std::size_t d = 0; d < found.size(); ++d) {
                double error = found[d] - exact[d];
                for (std::size_t j = 0; j < d; ++j)
                    error += (found[j] - exact[j]) * feedback[j * static_cast<std::size_t>(padded) + d];
                if (std::abs(found[d]) > 126.5 * scale) continue;
                EXPECT_NEAR(error / scale, 0.0, 0.501) << head_dim << ": " << d;
                ++checked;
            }
        }
        EXPECT_GT(checked, (rows - 1) * padded / 2);
        on_each_isa([&](const Kernels& k) { EXPECT_EQ(page_of(k.cache(DType::i8), feedback.data()), page); });
        std::fill(feedback.begin(), feedback.end(), 0.0f);
        EXPECT_EQ(page_of(format, feedback.data()), page_of(format, nullptr));
    }
}

// The largest sums that integers can have: equal keys, queries and weights.
TEST(CacheInt8, SumsFitInto32Bits) {
    for (const int head_dim : {64, 256, 1024}) {
        Head head(64, head_dim, DType::i8, 10, 0.0f);
        std::vector<float> x(static_cast<std::size_t>(head_dim)), q(x);
        x[0] = 1.0f;  // rotated, all are 127 times the scale
        q[0] = 1.0f;
        head.store_everywhere(x, x);
        const auto expected = head.run(scalar_kernels(), q, {{0, 64}}, 1.0f)[0];
        head.expect_close(expected, q.data(), {0, 64}, 1.0f);
        on_each_isa([&](const Kernels& k) { EXPECT_EQ(head.run(k, q, {{0, 64}}, 1.0f)[0], expected) << head_dim; });
    }
}

}  // namespace
}  // namespace pygpt::test
