// Pages: what is stored in them, the pool, and caches that share them.
#include "model/kv_cache.h"
#include "model/kv_store.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>

#include "base/error.h"
#include "support.h"

namespace pygpt::test {
namespace {

constexpr std::size_t kPageBytes = 256;

std::shared_ptr<PagePool> make_pool(std::size_t spare = 8) { return std::make_shared<PagePool>(kPageBytes, spare); }

KvCache make_cache(const std::shared_ptr<PagePool>& pool = make_pool(), int window = 0) {
    const PageClass all{pool, window};
    return KvCache({&all, 1});
}

void append(KvCache& cache, int n) {
    const int end = cache.length() + n;
    cache.reserve(cache.length(), end);
    cache.commit(end);
}

std::byte* page_of(const KvCache& cache, int i) { return cache.pages(0)[static_cast<std::size_t>(i)]; }

// A page full of one number, and whether it still is.
void fill(const KvCache& cache, int page, int value) { std::memset(page_of(cache, page), value, kPageBytes); }
bool holds(const KvCache& cache, int page, int value) {
    const std::byte* p = page_of(cache, page);
    return std::all_of(p, p + kPageBytes, [&](std::byte b) { return b == static_cast<std::byte>(value); });
}

// The rows' keys and values stand in their slots of their layer, converted, and nothing else changed.
template <class T>
void expect_stored(const CacheFormat& format, int heads, int head_dim, int slot, int rows) {
    ModelConfig config;
    config.layers.resize(2);
    config.n_kv_head = heads;
    config.head_dim = head_dim;
    const PageLayout layout(config, format);
    std::vector<std::byte> page(layout.page_bytes(0), std::byte{0x11}), expected = page;
    const int width = heads * head_dim, ld = width + 5;
    const std::vector<float> k = Random(1).floats(rows * ld), v = Random(2).floats(rows * ld);
    for (int head = 0; head < heads; ++head) {
        T* const keys = reinterpret_cast<T*>(expected.data() + layout.keys(1, head));
        T* const values = reinterpret_cast<T*>(expected.data() + layout.values(1, head));
        for (int row = 0; row < rows; ++row) {
            for (int d = 0; d < head_dim; ++d) {
                const std::ptrdiff_t at = row * ld + head * head_dim + d;
                T& key = keys[d * kPagePositions + slot + row];
                T& value = values[(slot + row) * padded_head(head_dim) + d];
                if constexpr (std::is_same_v<T, float>) {
                    key = k.data()[at];
                    value = v.data()[at];
                } else {
                    key = to_half(k.data()[at]);
                    value = to_half(v.data()[at]);
                }
            }
        }
    }
    store_rows(layout, 1, page.data(), slot, {k.data(), v.data(), ld, rows});
    EXPECT_EQ(page, expected) << heads << " x " << head_dim << ", rows " << slot << " + " << rows;
}

TEST(StoreRows, WritesItsOwnSlotsOnly) {
    on_each_isa([&](const Kernels& kernels) {
        for (const auto& [slot, rows] : {std::pair{0, 1}, {63, 1}, {5, 17}, {0, 64}, {30, 33}}) {
            for (const int head_dim : {1, 10, 16, 64, 130}) {
                expect_stored<float>(kernels.cache(DType::f32), 3, head_dim, slot, rows);
                expect_stored<Half>(kernels.cache(DType::f16), 2, head_dim, slot, rows);
            }
        }
    });
}

TEST(PagePool, ReusesPagesUpToItsSpareOnes) {
    const auto pool = make_pool(1);
    auto a = pool->take(), b = pool->take();
    EXPECT_NE(a->data(), b->data());
    const std::byte* const first = a->data();
    a.reset();
    b.reset();  // beyond the one spare page: freed
    const auto c = pool->take();
    EXPECT_EQ(c->data(), first);
}

TEST(PagePool, LivesAsLongAsItsPages) {
    auto pool = make_pool();
    const std::weak_ptr<PagePool> watch = pool;
    auto page = pool->take();
    pool.reset();
    EXPECT_FALSE(watch.expired());
    page.reset();
    EXPECT_TRUE(watch.expired());
}

TEST(KvCache, GrowsByPages) {
    KvCache cache = make_cache();
    append(cache, 63);
    fill(cache, 0, 1);
    const std::byte* const first = page_of(cache, 0);
    append(cache, 1);
    EXPECT_EQ(cache.length(), 64);
    EXPECT_EQ(page_of(cache, 0), first);
    append(cache, 1);  // the second page
    fill(cache, 1, 2);
    append(cache, 200);
    fill(cache, 4, 3);
    EXPECT_EQ(cache.length(), 265);
    EXPECT_TRUE(holds(cache, 0, 1));
    EXPECT_TRUE(holds(cache, 1, 2));
}

TEST(KvCache, WhatIsNotCommittedIsNotThere) {
    KvCache cache = make_cache();
    append(cache, 10);
    const std::byte* const first = page_of(cache, 0);
    cache.reserve(10, 310);
    EXPECT_EQ(cache.length(), 10);
    append(cache, 54);
    EXPECT_EQ(cache.length(), 64);
    EXPECT_EQ(page_of(cache, 0), first);
}

TEST(KvCache, ForksShareUntilTheyWrite) {
    KvCache cache = make_cache();
    append(cache, 100);
    fill(cache, 0, 1);
    fill(cache, 1, 2);
    KvCache fork = cache.fork();
    EXPECT_EQ(fork.length(), 100);
    EXPECT_EQ(page_of(fork, 0), page_of(cache, 0));
    EXPECT_EQ(page_of(fork, 1), page_of(cache, 1));
    append(fork, 1);
    EXPECT_EQ(page_of(fork, 0), page_of(cache, 0));  // full pages stay shared
    EXPECT_NE(page_of(fork, 1), page_of(cache, 1));  // the one that is written to is copied
    EXPECT_TRUE(holds(fork, 1, 2));
    fill(fork, 1, 9);
    EXPECT_TRUE(holds(cache, 1, 2));
    const std::byte* const own = page_of(cache, 1);
    append(cache, 1);  // nobody shares it any more
    EXPECT_EQ(page_of(cache, 1), own);
}

TEST(KvCache, TheOriginalCopiesAsWell) {
    KvCache cache = make_cache();
    append(cache, 30);
    fill(cache, 0, 1);
    const KvCache fork = cache.fork();
    append(cache, 1);
    fill(cache, 0, 2);
    EXPECT_TRUE(holds(fork, 0, 1));
}

TEST(KvCache, TruncationInsideASharedPageLeavesTheOthersAlone) {
    KvCache cache = make_cache();
    append(cache, 150);
    for (int p = 0; p < 3; ++p) fill(cache, p, p + 1);
    KvCache fork = cache.fork();
    fork.truncate(70);
    EXPECT_EQ(fork.length(), 70);
    append(fork, 100);
    fill(fork, 1, 8);
    fill(fork, 2, 9);
    EXPECT_EQ(page_of(fork, 0), page_of(cache, 0));
    for (int p = 0; p < 3; ++p) EXPECT_TRUE(holds(cache, p, p + 1)) << p;
    fork.truncate(0);
    append(fork, 5);
    fill(fork, 0, 7);
    EXPECT_TRUE(holds(cache, 0, 1));
}

TEST(KvCache, TruncationGivesPagesBack) {
    const auto pool = make_pool();
    KvCache cache = make_cache(pool);
    append(cache, 200);
    const std::byte* const last = page_of(cache, 3);
    cache.truncate(192);
    EXPECT_EQ(pool->take()->data(), last);
    cache.truncate(192);
    cache.truncate(129);
    append(cache, 63);
    EXPECT_EQ(cache.length(), 192);
}

// The pages that are there, of all up to the last.
std::pair<int, int> held(const KvCache& cache) {
    const std::vector<std::byte*> pages = cache.pages(0);
    const auto there = std::count_if(pages.begin(), pages.end(), [](const std::byte* p) { return p != nullptr; });
    return {static_cast<int>(there), static_cast<int>(pages.size())};
}

TEST(KvCache, PagesBehindEveryWindowGoBack) {
    for (const int step : {1, 7, 64, 256}) {
        KvCache cache = make_cache(make_pool(), 100);
        for (int length = step; length < 2000; length += step) {
            append(cache, step);
            const int gone = std::max(0, length - kReturn - 100 + 1) / 64, all = ceil_div(length, 64);
            ASSERT_EQ(held(cache), std::pair(all - gone, all)) << length;
        }
    }
}

TEST(KvCache, ALongCallHoldsAWindowOnly) {
    KvCache cache = make_cache(make_pool(), 100);
    append(cache, 500);
    for (int page = 2; page < 8; ++page) fill(cache, page, page);
    for (int begin = 500; begin < 5000; begin += 256) {
        cache.reserve(begin, begin + 256);
        const auto [there, all] = held(cache);
        EXPECT_LE(there, 6 + ceil_div(kReturn + 100 + 256, 64) + 2) << begin;  // 6: of the sequence as it is
        EXPECT_EQ(all, ceil_div(begin + 256, 64));
    }
    EXPECT_EQ(cache.length(), 500);
    for (int page = 2; page < 8; ++page) EXPECT_TRUE(holds(cache, page, page)) << page;
    append(cache, 300);  // after a call that failed
    const auto pages = cache.pages(0);
    for (std::size_t i = 7; i < 13; ++i) EXPECT_NE(pages[i], nullptr) << i;
}

TEST(KvCache, TruncationNeedsTheWindow) {
    KvCache cache = make_cache(make_pool(), 100);
    append(cache, 1000);
    const KvCache whole = cache.fork();
    for (const int length : {1, 500, 640}) EXPECT_THROW(cache.truncate(length), InvalidArgument) << length;
    EXPECT_EQ(cache.length(), 1000);
    cache.truncate(1000 - kReturn);
    EXPECT_EQ(cache.length(), 744);
    EXPECT_EQ(page_of(cache, 11), page_of(whole, 11));
    cache.truncate(0);
    append(cache, 70);
    EXPECT_EQ(held(cache), std::pair(2, 2));
    EXPECT_EQ(held(whole), std::pair(6, 16));
    KvCache narrow = make_cache(make_pool(), 1);
    append(narrow, 1000);
    narrow.truncate(744);
    append(narrow, 1);
    EXPECT_EQ(narrow.length(), 745);
}

TEST(KvCache, HoldsWhatItsLayoutSays) {
    ModelConfig config;
    config.n_ctx = 5000;
    config.n_kv_head = 1;
    config.head_dim = 8;
    config.layers.resize(3);
    config.layers[1].window = 100;
    const PageLayout layout(config, best_kernels().cache(DType::f16));
    for (const int length : {0, 1, 64, 100, 355, 356, 419, 420, 1000, 5000}) {
        std::size_t expected = 0;
        for (std::size_t c = 0; c < layout.n_classes(); ++c) {
            KvCache cache = make_cache(make_pool(), layout.window(c));
            append(cache, length);
            const auto pages = cache.pages(0);
            const auto missing = std::count(pages.begin(), pages.end(), nullptr);
            expected += (pages.size() - static_cast<std::size_t>(missing)) * layout.page_bytes(c);
        }
        EXPECT_EQ(layout.bytes_at(length), expected) << length;
    }
    EXPECT_LT(layout.bytes_at(5000), layout.bytes() * 79);
}

TEST(KvCache, ForksOnManyThreadsKeepApart) {
    KvCache cache = make_cache();
    append(cache, 100);
    fill(cache, 0, 100);
    fill(cache, 1, 100);
    std::vector<std::thread> threads;
    std::vector<int> good(4, 0);
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t, fork = cache.fork()]() mutable {
            for (int round = 0; round < 200; ++round) {
                KvCache mine = fork.fork();
                mine.truncate(90);
                append(mine, 20);
                const bool copied = holds(mine, 1, 100);
                fill(mine, 1, t + 1);
                good[static_cast<std::size_t>(t)] += copied && holds(mine, 1, t + 1) && holds(mine, 0, 100);
            }
        });
    }
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(good, std::vector<int>(4, 200));
    EXPECT_TRUE(holds(cache, 1, 100));
}

}  // namespace
}  // namespace pygpt::test
