// MXFP4: weights that stay in a file's blocks give what their values in float32 give, on every instruction set.
#include <limits>

#include "base/mxfp4.h"
#include "ops/linear.h"
#include "support.h"
#include "support_engine.h"

namespace pygpt::test {
namespace {

// Rows of random blocks as a file holds them, with scales around 1 and, in some, at the ends of the range.
struct FourBits {
    std::vector<std::uint8_t> bytes;
    Plain plain;

    FourBits(int rows, int k, const char* format, unsigned seed) {
        const BlockFormat* blocks = nullptr;
        for (const BlockFormat& f : best_kernels().blocks) {
            if (std::string(f.name) == format) blocks = &f;
        }
        const int row_bytes = k / 32 * 17;
        Random random(seed);
        for (int i = 0; i < rows * row_bytes; ++i) {
            const int scale = random.below(20) == 0 ? random.below(2) * 3 : 110 + random.below(16);
            bytes.push_back(static_cast<std::uint8_t>(i % 17 == 0 ? scale : random.below(256)));
        }
        plain = {bytes.data(), DType::f32, rows, k, row_bytes, 1, blocks};
    }
};

// The rows of both, one after the other or in panels that alternate.
PackedMatrix packed(int n, const LinearFormat& format, const FourBits& a, const FourBits& b, bool alternate) {
    PackedMatrix m(n, a.plain.cols, format);
    with_team(2, [&](Team& team) {
        EXPECT_TRUE(m.write(a.plain, {0, alternate ? 32 : 16}, team));
        EXPECT_TRUE(m.write(b.plain, {alternate ? 16 : a.plain.rows, alternate ? 32 : 16}, team));
    });
    return m;
}

TEST(Mxfp4, ProductsEqualThoseOfTheValuesInFloat32) {
    for (const char* const name : {"MXFP4", "MXFP4 pairs"}) {
        for (const auto& [rows, n, k] : {std::array{1, 9, 32},
                                         {1, 300, 96},
                                         {2, 40, 320},
                                         {3, 33, 64},
                                         {5, 150, 32},
                                         {8, 70, 64},
                                         {9, 400, 64},
                                         {60, 130, 96}}) {
            const FourBits a(n, k, name, 1), b(7, k, name, 2);
            const std::vector<float> x = Random(3).floats(rows * k), bias = Random(4).floats(round_up(n + 7, 16));
            std::vector<float> expected;
            on_each_isa([&, rows = rows, n = n, k = k](const Kernels& kernels) {
                const PackedMatrix plain = packed(n + 7, kernels.format(DType::f32), a, b, false);
                const PackedMatrix four = packed(n + 7, kernels.mxfp4, a, b, false);
                EXPECT_EQ(four.bytes(), static_cast<std::size_t>(ceil_div(n + 7, 16) * k / 32 * 272));
                for (const PackedMatrix* m : {&plain, &four}) {
                    Guarded y(rows, n + 7, n + 9);
                    const LinearCall call{*m, bias.data(), x.data(), k, {}, rows, y.row(0), y.ld()};
                    with_team(3, [&](Team& team) { linear(team, call); });
                    EXPECT_TRUE(y.intact());
                    if (expected.empty()) expected.assign(y.all().begin(), y.all().end());
                    EXPECT_TRUE(same_bits(y.all(), expected)) << name << " " << rows << " x " << n << " x " << k;
                }
                std::vector<float> row(static_cast<std::size_t>(k)), other(row);
                for (int c = 0; c < n + 7; ++c) {
                    plain.read_row(c, row.data());
                    four.read_row(c, other.data());
                    ASSERT_EQ(row, other);
                }
            });
        }
    }
}

TEST(Mxfp4, PanelsAlternate) {
    const FourBits gate(20, 64, "MXFP4", 5), up(20, 64, "MXFP4", 6);
    const PackedMatrix plain = packed(64, best_kernels().format(DType::f32), gate, up, true);
    const PackedMatrix four = packed(64, best_kernels().mxfp4, gate, up, true);
    std::vector<float> row(64), other(64);
    for (int c = 0; c < 64; ++c) {
        plain.read_row(c, row.data());
        four.read_row(c, other.data());
        EXPECT_EQ(row, other) << c;
    }
}

// Products of both kinds may meet in one expert, and stand beside a shared expert of the chosen format.
TEST(Mxfp4, ExpertsInBlocksBesideTheChosenFormat) {
    ModelConfig config = SmallModel().config;
    config.n_embd = 160;
    config.n_head = 16;
    config.head_dim = 10;
    LayerConfig layer{.attn_scale = 0.3f};
    layer.experts = Experts{.n_expert = 4, .n_used = 2, .n_inner = 96, .normalized = true, .shared_inner = 50};
    config.layers.assign(2, layer);
    const std::vector<int> tokens = random_tokens(40, config.n_vocab, 4);
    for (const char* const kept : {".weight", ".down.weight", ".up.weight"}) {
        for (const bool gated : {true, false}) {
            config.gated_mlp = gated;
            const auto is_kept = [&](const TensorSpec& t) {
                return t.storage == Storage::chosen_or_blocks && t.whole.ends_with(kept);
            };
            const auto values = random_tensors(config, 9);
            for (const DType dtype : {DType::bf16, DType::i8}) {
                std::vector<float> expected;
                on_each_isa([&](const Kernels& kernels) {
                    const auto engine = [&](int threads) {
                        const auto shared = std::make_shared<const Threads>(threads);
                        WeightsBuilder builder(config, kernels, kernels.format(dtype));
                        unsigned i = 0;
                        for (const TensorSpec& t : list_tensors(config)) {
                            const FourBits blocks(t.rows, round_up(t.cols, 32), "MXFP4", i);
                            const Plain floats{values[i++].data(), DType::f32, t.rows, t.cols, t.cols, 1};
                            shared->run(
                                [&](Team& team) { builder.add(t.name, is_kept(t) ? blocks.plain : floats, team); });
                        }
                        return std::make_shared<Engine>(config, builder.finish(), kernels, shared, DType::f16);
                    }(3);
                    std::vector<float> all(tokens.size() * static_cast<std::size_t>(config.n_vocab));
                    const auto session = engine->session(), one = engine->session();
                    const SequenceInput input{session.get(), tokens, Output::all, all.data()};
                    engine->forward({&input, 1}, [] {});
                    if (expected.empty()) expected = all;
                    EXPECT_TRUE(same_bits(all, expected)) << kept;
                    for (std::size_t at = 0; at < tokens.size(); ++at) {
                        const std::vector<float> logits = append(*engine, *one, {tokens[at]});
                        const auto* const wanted = all.data() + at * static_cast<std::size_t>(config.n_vocab);
                        ASSERT_TRUE(same_bits(logits, {wanted, logits.size()})) << kept << " " << at;
                    }
                });
            }
        }
    }
}

TEST(Mxfp4, EveryScaleIsAPowerOfTwo) {
    for (int e = 0; e < 256; ++e) {
        EXPECT_EQ(bits_float(half_scale_bits(static_cast<std::uint32_t>(e))), std::ldexp(1.0f, e - 128));
    }
    on_each_isa([](const Kernels& kernels) {
        FourBits every(256, 32, "MXFP4", 7);
        for (int r = 0; r < 256; ++r) every.bytes[static_cast<std::size_t>(r * 17)] = static_cast<std::uint8_t>(r);
        std::vector<float> one(32, 0.0f), y(256), values(32);
        one[5] = 1.0f;
        PackedMatrix m(256, 32, kernels.mxfp4);
        with_team(1, [&](Team& team) {
            EXPECT_TRUE(m.write(every.plain, {}, team));
            linear(team, {m, nullptr, one.data(), 32, {}, 1, y.data(), 256});
        });
        for (int r = 0; r < 256; ++r) {
            m.read_row(r, values.data());
            if (std::isfinite(*std::max_element(values.begin(), values.end())) &&
                std::isfinite(*std::min_element(values.begin(), values.end()))) {
                EXPECT_EQ(y.data()[r], values[5]);
            }
        }
    });
}

}  // namespace
}  // namespace pygpt::test
