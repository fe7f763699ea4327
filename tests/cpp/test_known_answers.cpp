// The numeric contract across machines, which no machine can test alone: what the kernels compute from numbers of a
// seed has one digest, with every instruction set, compiler and kind of processor. Who changes results on purpose puts
// the new digests here; all that this machine can run must agree on them.
#include <cstdint>
#include <span>

#include "ops/linear.h"
#include "support_engine.h"
#include "support_int8.h"
#include "support_training.h"

namespace pygpt::test {
namespace {

// FNV-1a over the numbers' bits; all NaNs count as one, and so does their sign, which processors choose differently.
class Digest {
public:
    void add(std::uint32_t word) {
        for (int i = 0; i < 4; ++i, word >>= 8) value_ = (value_ ^ (word & 0xffu)) * 0x100000001b3u;
    }
    void add(float x) { add(std::isnan(x) ? 0x7fc00000u : float_bits(x)); }
    void add(double x) { add(static_cast<float>(x)); }
    template <class T>
    void add(std::span<const T> values) {
        for (const T& x : values) add(static_cast<std::conditional_t<std::is_integral_v<T>, std::uint32_t, T>>(x));
    }
    template <class T>
    void add(const std::vector<T>& values) {
        add(std::span<const T>(values));
    }
    std::uint64_t value() const { return value_; }

private:
    std::uint64_t value_ = 0xcbf29ce484222325u;
};

// f(kernels, digest) gives `expected` on each table.
template <class F>
void expect_digest(std::uint64_t expected, F f) {
    on_each_isa([&](const Kernels& kernels) {
        Digest digest;
        f(kernels, digest);
        EXPECT_EQ(digest.value(), expected) << std::hex << "0x" << digest.value();
    });
}

// Numbers of all sizes, infinities and NaNs among them.
std::vector<float> all_sizes() {
    std::vector<float> out;
    for (std::uint64_t bits = 0; bits < std::uint64_t{1} << 32; bits += 131071)
        out.push_back(bits_float(static_cast<std::uint32_t>(bits)));
    return out;
}

TEST(KnownAnswers, Functions) {
    expect_digest(0xf84c69ef673bf29u, [](const Kernels& k, Digest& digest) {
        const std::vector<float> x = all_sizes();
        const auto n = static_cast<std::ptrdiff_t>(x.size());
        std::vector<float> y(x.size());
        k.exp(x.data(), y.data(), n);
        digest.add(y);
        k.erf(x.data(), y.data(), n);
        digest.add(y);
        for (const Activation f : kActivations) {
            y = x;
            k.activate(f, y.data(), n);
            digest.add(y);
        }
        y = x;
        k.scale_and_cap(y.data(), 0.7f, 30.0f, n);
        digest.add(y);
        std::vector<Half> halves(x.size());
        k.to_f16(x.data(), halves.data(), n);
        for (const Half h : halves) digest.add(to_float(h));
    });
}

TEST(KnownAnswers, Rows) {
    expect_digest(0x983950a38d431b58u, [](const Kernels& k, Digest& digest) {
        constexpr int rows = 3, n = 333;
        Random random(1);
        std::vector<float> x = random.floats(rows * n, -4.0f, 4.0f), y(x.size());
        const std::vector<float> weight = random.floats(n), bias = random.floats(n);
        k.layer_norm({x.data(), n, y.data(), n, rows, n, weight.data(), bias.data(), 1e-5f});
        digest.add(y);
        k.rms_norm({x.data(), n, y.data(), n, rows, n, weight.data(), nullptr, 1e-5f});
        digest.add(y);
        k.log_softmax(x.data(), y.data(), n);
        digest.add(y);
        k.add(x.data(), y.data(), 0.3f, n);
        k.activate_gated(Activation::silu, x.data(), y.data(), 480);
        digest.add(y);
        for (const bool interleaved : {false, true}) k.rope({x.data(), 9, 37, 32, interleaved, &weight[0], &bias[0]});
        digest.add(x);
    });
}

void add_products(const LinearFormat& format, Digest& digest) {
    constexpr int n = 83, k = 200, most = 130;
    Random random(2);
    const std::vector<float> weights = random.floats(n * k), x = random.floats(most * k);
    PackedMatrix matrix(n, k, format);
    with_team(1, [&](Team& team) { EXPECT_TRUE(matrix.write({weights.data(), DType::f32, n, k, k, 1}, {}, team)); });
    std::vector<float> row(k);
    matrix.read_row(n - 1, row.data());
    digest.add(row);
    Rows quantized(most, k);
    for (int r = 0; r < most && format.prepare != nullptr; ++r) {
        format.prepare(x.data() + r * k, k, quantized.view().at(r, 0));
        digest.add(std::span<const std::int8_t>(quantized.view().at(r, 0).q, k));
        digest.add(quantized.scale(r, 1));
        digest.add(static_cast<std::uint32_t>(quantized.sum(r, 1)));
    }
    for (const int rows : {1, 2, 3, 4, 5, 7, 8, 12, 33, most}) {
        std::vector<float> y(static_cast<std::size_t>(rows) * n);
        const LinearCall call{matrix, nullptr, x.data(), k, quantized.view(), rows, y.data(), n};
        with_team(1, [&](Team& team) { linear(team, call); });
        digest.add(y);
    }
}

TEST(KnownAnswers, Float32Products) {
    expect_digest(0x2048f4700c699ea7u,
                  [](const Kernels& k, Digest& digest) { add_products(k.format(DType::f32), digest); });
}

TEST(KnownAnswers, BFloat16Products) {
    expect_digest(0xe9893ec58bcdd9acu,
                  [](const Kernels& k, Digest& digest) { add_products(k.format(DType::bf16), digest); });
}

TEST(KnownAnswers, Int8Products) {
    expect_digest(0xaaaea6dbfeb8e08fu,
                  [](const Kernels& k, Digest& digest) { add_products(k.format(DType::i8), digest); });
}

TEST(KnownAnswers, Mxfp4Products) {
    expect_digest(0xe6a5d6eb27cdd24au, [](const Kernels& kernels, Digest& digest) {
        constexpr int n = 48, k = 96, most = 20;
        Random random(3);
        const std::vector<float> x = random.floats(most * k);
        std::vector<std::uint8_t> panels(n * k * 17 / 32);
        for (std::size_t i = 0; i < panels.size(); ++i)  // blocks of 16 bytes of scales and 256 of values
            panels[i] = static_cast<std::uint8_t>(i % 272 < 16 ? 110 + random.below(16) : random.below(256));
        for (const int rows : {1, 2, 3, 5, 8, most}) {
            std::vector<float> y(static_cast<std::size_t>(rows) * n);
            kernels.mxfp4.multiply({x.data(), k, {}, rows, k, panels.data(), nullptr, nullptr, y.data(), n, n, 0, 3});
            digest.add(y);
        }
    });
}

// Logits of a prompt that crosses a segment of attention, and of tokens one by one.
void add_logits(const ModelConfig& config, DType dtype, DType kv, const Kernels& kernels, Digest& digest) {
    const auto engine = build_engine(config, random_tensors(config, 4), dtype, kv, kernels, 1);
    const auto session = engine->session();
    digest.add(append(*engine, *session, random_tokens(270, config.n_vocab, 5)));
    for (const int token : random_tokens(8, config.n_vocab, 6)) digest.add(append(*engine, *session, {token}));
}

ModelConfig capped_and_turned() {
    ModelConfig c = SmallModel().config;
    c.norm = Norm::rms_norm;
    c.activation = Activation::gelu_tanh;
    c.qkv_bias = c.learned_positions = false;
    c.logit_cap = 30.0f;
    c.layers[0].rope = Rope{false, {1.0, 0.1, 0.01}};
    return c;
}

TEST(KnownAnswers, Float32Logits) {
    expect_digest(0x755df15d2af74c54u, [](const Kernels& kernels, Digest& digest) {
        add_logits(SmallModel().config, DType::f32, DType::f32, kernels, digest);
        add_logits(capped_and_turned(), DType::f32, DType::f32, kernels, digest);
    });
}

TEST(KnownAnswers, BFloat16Logits) {
    expect_digest(0x8d69cd487846c4d7u, [](const Kernels& kernels, Digest& digest) {
        add_logits(SmallModel().config, DType::bf16, DType::f16, kernels, digest);
        add_logits(capped_and_turned(), DType::bf16, DType::f16, kernels, digest);
    });
}

TEST(KnownAnswers, Int8Logits) {
    expect_digest(0xd8b905e560018091u, [](const Kernels& kernels, Digest& digest) {
        add_logits(SmallModel().config, DType::i8, DType::f16, kernels, digest);
        add_logits(capped_and_turned(), DType::i8, DType::f16, kernels, digest);
    });
}

TEST(KnownAnswers, Int8CacheLogits) {
    expect_digest(0x5539e81daf14f56au, [](const Kernels& kernels, Digest& digest) {
        add_logits(SmallModel().config, DType::i8, DType::i8, kernels, digest);
        add_logits(capped_and_turned(), DType::i8, DType::i8, kernels, digest);
    });
}

// A product, attention both ways, and a step of the optimizer.
TEST(KnownAnswers, Training) {
    expect_digest(0x4ba78ab09daa4921u, [](const Kernels& kernels, Digest& digest) {
        const TrainingKernels& k = training_kernels(kernels);
        constexpr int n_ctx = 70, n_head = 2, dim = 20, width = n_head * dim, n = n_ctx * width;
        Random random(7);
        const std::vector<float> qkv = random.floats(3 * n), dout = random.floats(n);
        std::vector<float> out(n), lse(n_head * n_ctx), dqkv(3 * n), scratch(attention_backward_floats(n_ctx, dim));
        scratch.resize(scratch.size() + static_cast<std::size_t>(attention_forward_floats(n_ctx, dim)));
        for (int head = 0; head < n_head; ++head) {
            const SequenceAttentionArgs in{qkv.data(), n_ctx, n_head, n_head,         dim, head,
                                           0.2f,       {},    0,      scratch.data(), {}};
            k.attention_f32.forward({in, out.data(), lse.data()});
            k.attention_f32.backward({in, out.data(), lse.data(), dout.data(), dqkv.data()});
        }
        digest.add(out);
        digest.add(dqkv);
        std::vector<float> a(round_up(width, 16) * n_ctx), b(round_up(3 * width, 16) * n_ctx), c(width * 3 * width);
        k.matmul_f32.pack_a({out.data(), width, false, width, n_ctx, a.data(), 16 * n_ctx});
        k.matmul_f32.pack_b({qkv.data(), 3 * width, false, 3 * width, n_ctx, b.data(), 16 * n_ctx});
        k.matmul_f32.multiply({a.data(), width, n_ctx, b.data(), 3 * width, c.data(), 3 * width, false, nullptr});
        digest.add(c);
        digest.add(k.cross_entropy(c.data(), 77, 5, 0.5f, true));
        std::vector<float> m(n), v(n);
        k.adamw({out.data(), dout.data(), m.data(), v.data(), n, 0.5f, 0.9f, 0.1f, 0.95f, 0.05f, 1e-3f, 1e-2f, 4.0f,
                 1e-8f});
        digest.add(out);
        digest.add(k.sum_of_squares(out.data(), n));
    });
}

}  // namespace
}  // namespace pygpt::test
