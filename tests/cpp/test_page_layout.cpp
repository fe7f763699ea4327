// PageLayout: where a page keeps what, and in which format.
#include "model/kv_cache.h"

#include <set>

#include "support.h"

namespace pygpt::test {
namespace {

TEST(PageLayout, EveryHeadHasItsOwnPlace) {
    for (const CacheFormat& format : best_kernels().caches) {
        for (const int width : {1, 10, 16, 33}) {
            ModelConfig config;
            config.layers.resize(2);
            config.n_kv_head = 3;
            config.head_dim = width;
            const PageLayout layout(config, format);
            std::set<std::size_t> places;
            for (int layer = 0; layer < 2; ++layer) {
                for (int head = 0; head < 3; ++head)
                    places.insert({layout.keys(layer, head), layout.values(layer, head)});
            }
            EXPECT_EQ(places.size(), 12u);
            std::size_t expected = 0;
            for (const std::size_t place : places) {
                EXPECT_EQ(place, expected);
                EXPECT_EQ(place % 64, 0u);
                expected += format.head_bytes(width);
            }
            EXPECT_EQ(layout.page_bytes(0), expected);
        }
    }
}

TEST(PageLayout, LayersThatSeeEquallyFarShareAPage) {
    ModelConfig config;
    config.n_ctx = 1000;
    config.n_kv_head = 3;
    config.head_dim = 10;
    for (const int window : {0, 100, 2000, 100, 30}) {
        config.layers.emplace_back();
        if (window > 0) config.layers.back().window = window;
    }
    const PageLayout layout(config, best_kernels().cache(DType::f16));
    ASSERT_EQ(layout.n_classes(), 3u);
    const std::size_t one = layout.page_bytes(2), expected[] = {0, 1, 0, 1, 2}, places[] = {0, 0, one, one, 0};
    for (int layer = 0; layer < 5; ++layer) {
        EXPECT_EQ(layout.class_of(layer), expected[layer]);
        EXPECT_EQ(layout.keys(layer, 0), places[layer]);
    }
    EXPECT_EQ(layout.window(0), 0);  // what is wider than the context is none
    EXPECT_EQ(layout.window(1), 100);
    EXPECT_EQ(layout.page_bytes(1), 2 * one);
    EXPECT_EQ(layout.bytes(), 5 * one);
}

TEST(PageLayout, AFirstLayerOfBiasedKeysThatTurnIsNotRoundedToInt8) {
    const CacheFormat &int8 = best_kernels().cache(DType::i8), &half = best_kernels().cache(DType::f16);
    ModelConfig config;
    config.n_kv_head = 3;
    config.head_dim = 10;
    config.qkv_bias = true;
    config.layers.resize(3);
    for (LayerConfig& layer : config.layers) layer.rope = Rope{};
    const PageLayout layout(config, int8, half);
    EXPECT_EQ(&layout.format(), &int8);
    std::size_t place = 0;
    for (int layer = 0; layer < 3; ++layer) {
        const CacheFormat& format = layer == 0 ? half : int8;
        EXPECT_EQ(&layout.format(layer), &format);
        for (int head = 0; head < 3; ++head, place += 2 * format.head_bytes(10)) {
            EXPECT_EQ(layout.keys(layer, head), place);
            EXPECT_EQ(layout.values(layer, head), place + format.head_bytes(10));
        }
        EXPECT_EQ(layout.head_bytes(layer), 2 * format.head_bytes(10));
    }
    EXPECT_EQ(layout.page_bytes(0), place);
    EXPECT_EQ(layout.bytes(), place);
    EXPECT_EQ(&PageLayout(config, best_kernels().cache(DType::f32), half).format(0), &best_kernels().cache(DType::f32));
    ModelConfig other = config;
    other.qk_norm = QkNorm::head;
    EXPECT_EQ(&PageLayout(other, int8, half).format(0), &int8);
    other = config;
    other.qkv_bias = false;
    EXPECT_EQ(&PageLayout(other, int8, half).format(0), &int8);
    other = config;
    other.layers[0].rope.reset();
    EXPECT_EQ(&PageLayout(other, int8, half).format(0), &int8);
}

}  // namespace
}  // namespace pygpt::test
