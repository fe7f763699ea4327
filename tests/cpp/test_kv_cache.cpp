// Pages: their layout, the pool, and caches that share them.
#include "model/kv_cache.h"
#include "model/kv_store.h"

#include <cstring>
#include <memory>
#include <set>
#include <thread>

#include "support.h"

namespace pygpt::test {
namespace {

constexpr std::size_t kPageBytes = 256;

std::shared_ptr<PagePool> make_pool(std::size_t spare = 8) { return std::make_shared<PagePool>(kPageBytes, spare); }

void append(KvCache& cache, int n) {
    cache.reserve(n);
    cache.commit(n);
}

// A page full of one number, and whether it still is.
void fill(const KvCache& cache, int page, int value) { std::memset(cache.page(page), value, kPageBytes); }
bool holds(const KvCache& cache, int page, int value) {
    const std::byte* p = cache.page(page);
    return std::all_of(p, p + kPageBytes, [&](std::byte b) { return b == static_cast<std::byte>(value); });
}

TEST(PageLayout, EveryElementHasItsOwnPlace) {
    for (const DType dtype : {DType::f32, DType::f16}) {
        for (const int width : {1, 10, 16, 33}) {
            ModelConfig config;
            config.layers.resize(2);
            config.n_kv_head = 3;
            config.head_dim = width;
            const PageLayout layout(config, dtype);
            std::set<std::size_t> places;
            for (int layer = 0; layer < 2; ++layer) {
                for (int head = 0; head < 3; ++head) {
                    for (int slot = 0; slot < kPagePositions; ++slot) {
                        for (int d = 0; d < width; ++d) {
                            places.insert(layout.keys(layer, head) +
                                          static_cast<std::size_t>(PageLayout::key_at(slot, d)) * size_of(dtype));
                            places.insert(layout.values(layer, head) +
                                          static_cast<std::size_t>(layout.value_at(slot, d)) * size_of(dtype));
                        }
                    }
                }
            }
            EXPECT_EQ(places.size(), 2u * 3 * 64 * 2 * static_cast<std::size_t>(width));
            EXPECT_LE(*places.rbegin() + size_of(dtype), layout.page_bytes());
        }
    }
}

// The rows' keys and values stand in their slots of their layer, converted, and nothing else changed.
template <class T>
void expect_stored(const Kernels& kernels, DType dtype, int heads, int head_dim, int slot, int rows) {
    ModelConfig config;
    config.layers.resize(2);
    config.n_kv_head = heads;
    config.head_dim = head_dim;
    const PageLayout layout(config, dtype);
    std::vector<std::byte> page(layout.page_bytes(), std::byte{0x11}), expected = page;
    const int width = heads * head_dim, ld = width + 5;
    const std::vector<float> k = Random(1).floats(rows * ld), v = Random(2).floats(rows * ld);
    for (int head = 0; head < heads; ++head) {
        T* const keys = reinterpret_cast<T*>(expected.data() + layout.keys(1, head));
        T* const values = reinterpret_cast<T*>(expected.data() + layout.values(1, head));
        for (int row = 0; row < rows; ++row) {
            for (int d = 0; d < head_dim; ++d) {
                const std::ptrdiff_t at = row * ld + head * head_dim + d;
                T& key = keys[PageLayout::key_at(slot + row, d)];
                T& value = values[layout.value_at(slot + row, d)];
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
    store_rows(kernels, layout, 1, page.data(), slot, {k.data(), v.data(), ld, rows});
    EXPECT_EQ(page, expected) << heads << " x " << head_dim << ", rows " << slot << " + " << rows;
}

TEST(StoreRows, WritesItsOwnSlotsOnly) {
    on_each_isa([&](const Kernels& kernels) {
        for (const auto& [slot, rows] : {std::pair{0, 1}, {63, 1}, {5, 17}, {0, 64}, {30, 33}}) {
            for (const int head_dim : {1, 10, 16, 64, 130}) {
                expect_stored<float>(kernels, DType::f32, 3, head_dim, slot, rows);
                expect_stored<Half>(kernels, DType::f16, 2, head_dim, slot, rows);
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
    KvCache cache(make_pool());
    append(cache, 63);
    fill(cache, 0, 1);
    const std::byte* const first = cache.page(0);
    append(cache, 1);
    EXPECT_EQ(cache.length(), 64);
    EXPECT_EQ(cache.page(0), first);
    append(cache, 1);  // the second page
    fill(cache, 1, 2);
    append(cache, 200);
    fill(cache, 4, 3);
    EXPECT_EQ(cache.length(), 265);
    EXPECT_TRUE(holds(cache, 0, 1));
    EXPECT_TRUE(holds(cache, 1, 2));
}

TEST(KvCache, WhatIsNotCommittedIsNotThere) {
    KvCache cache(make_pool());
    append(cache, 10);
    const std::byte* const first = cache.page(0);
    cache.reserve(300);
    EXPECT_EQ(cache.length(), 10);
    append(cache, 54);
    EXPECT_EQ(cache.length(), 64);
    EXPECT_EQ(cache.page(0), first);
}

TEST(KvCache, ForksShareUntilTheyWrite) {
    KvCache cache(make_pool());
    append(cache, 100);
    fill(cache, 0, 1);
    fill(cache, 1, 2);
    KvCache fork = cache.fork();
    EXPECT_EQ(fork.length(), 100);
    EXPECT_EQ(fork.page(0), cache.page(0));
    EXPECT_EQ(fork.page(1), cache.page(1));
    append(fork, 1);
    EXPECT_EQ(fork.page(0), cache.page(0));  // full pages stay shared
    EXPECT_NE(fork.page(1), cache.page(1));  // the one that is written to is copied
    EXPECT_TRUE(holds(fork, 1, 2));
    fill(fork, 1, 9);
    EXPECT_TRUE(holds(cache, 1, 2));
    const std::byte* const own = cache.page(1);
    append(cache, 1);  // nobody shares it any more
    EXPECT_EQ(cache.page(1), own);
}

TEST(KvCache, TheOriginalCopiesAsWell) {
    KvCache cache(make_pool());
    append(cache, 30);
    fill(cache, 0, 1);
    const KvCache fork = cache.fork();
    append(cache, 1);
    fill(cache, 0, 2);
    EXPECT_TRUE(holds(fork, 0, 1));
}

TEST(KvCache, TruncationInsideASharedPageLeavesTheOthersAlone) {
    KvCache cache(make_pool());
    append(cache, 150);
    for (int p = 0; p < 3; ++p) fill(cache, p, p + 1);
    KvCache fork = cache.fork();
    fork.truncate(70);
    EXPECT_EQ(fork.length(), 70);
    append(fork, 100);
    fill(fork, 1, 8);
    fill(fork, 2, 9);
    EXPECT_EQ(fork.page(0), cache.page(0));
    for (int p = 0; p < 3; ++p) EXPECT_TRUE(holds(cache, p, p + 1)) << p;
    fork.truncate(0);
    append(fork, 5);
    fill(fork, 0, 7);
    EXPECT_TRUE(holds(cache, 0, 1));
}

TEST(KvCache, TruncationGivesPagesBack) {
    const auto pool = make_pool();
    KvCache cache(pool);
    append(cache, 200);
    const std::byte* const last = cache.page(3);
    cache.truncate(192);
    EXPECT_EQ(pool->take()->data(), last);
    cache.truncate(192);
    cache.truncate(129);
    append(cache, 63);
    EXPECT_EQ(cache.length(), 192);
}

TEST(KvCache, ForksOnManyThreadsKeepApart) {
    KvCache cache(make_pool());
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
