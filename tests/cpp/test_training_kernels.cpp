// The kernels of training: the same on every instruction set, and nothing written or read into a result beyond the
// arrays. That they are right is tested in tests/training/test_kernels.py.
#include <array>
#include <limits>

#include "support_training.h"
#include "training/attention_passes.h"

namespace pygpt::test {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr std::array kLengths = {1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 100, 257};

// n numbers with guards around them.
Guarded guarded(const std::vector<float>& values) {
    const int n = static_cast<int>(values.size());
    Guarded out(1, n, n);
    std::copy(values.begin(), values.end(), out.row(0));
    return out;
}

// Runs f(kernels, outputs) with each table on copies of the outputs: all must give what the scalar table gives.
template <class F>
void same_on_each_isa(const std::vector<Guarded>& outputs, F f) {
    std::vector<Guarded> expected = outputs;
    f(scalar_training(), expected);
    on_each_training_isa([&](const TrainingKernels& k) {
        std::vector<Guarded> found = outputs;
        f(k, found);
        for (std::size_t i = 0; i < found.size(); ++i) {
            EXPECT_TRUE(same_bits(found[i].all(), expected[i].all())) << "output " << i;
            EXPECT_TRUE(found[i].intact()) << "output " << i;
        }
    });
}

TEST(TrainingRows, NormsBackward) {
    for (const int n : kLengths) {
        for (const int rows : {0, 1, 5}) {
            Random random(static_cast<unsigned>(n));
            const std::vector<float> dy = random.floats(rows * n), x = random.floats(rows * n),
                                     weight = random.floats(n), stats = random.floats(2 * rows, 0.5f, 2.0f);
            const std::vector<Guarded> outputs(3, guarded(random.floats(n)));
            for (const bool centred : {true, false}) {
                same_on_each_isa(outputs, [&](const TrainingKernels& k, std::vector<Guarded>& out) {
                    std::vector<float> dx(dy.size());
                    const auto norm = centred ? k.layer_norm_backward : k.rms_norm_backward;
                    norm({dy.data(), x.data(), weight.data(), stats.data(), dx.data(), out[0].row(0),
                          centred ? out[1].row(0) : nullptr, rows, n});
                    if (rows > 0) std::copy(dx.end() - n, dx.end(), out[2].row(0));
                });
            }
        }
    }
}

TEST(TrainingRows, Activations) {
    for (const int n : kLengths) {
        Random random(static_cast<unsigned>(n));
        const std::vector<float> x = random.floats(n, -8.0f, 8.0f), dy = random.floats(n), up = random.floats(n);
        for (const Activation f : kActivations) {
            const std::vector<Guarded> outputs(5, Guarded(1, n, n));
            same_on_each_isa(outputs, [&](const TrainingKernels& k, std::vector<Guarded>& out) {
                k.activation(f, x.data(), out[0].row(0), n);
                k.activation_backward(f, dy.data(), x.data(), out[1].row(0), n);
                k.gated_activation(f, x.data(), up.data(), out[2].row(0), n);
                k.gated_activation_backward(f, dy.data(), x.data(), up.data(), out[3].row(0), out[4].row(0), n);
            });
        }
    }
}

TEST(TrainingRows, ANanStaysOne) {
    on_each_training_isa([](const TrainingKernels& k) {
        const float one = 1.0f;
        for (const Activation f : kActivations) {
            float y = 0.0f, slope = 0.0f;
            k.activation(f, &kNaN, &y, 1);
            EXPECT_TRUE(std::isnan(y));
            k.activation_backward(f, &one, &kNaN, &slope, 1);
            EXPECT_EQ(std::isnan(slope), f != Activation::relu);  // whose slope is 0 where x is not above 0
        }
    });
}

TEST(TrainingRows, TheSlopesOfACapAreTheSameOnEveryInstructionSet) {
    for (const int n : kLengths) {
        Random random(static_cast<unsigned>(n));
        std::vector<float> y = random.floats(n, -90.0f, 90.0f);
        const std::vector<float> dx = random.floats(n);
        for (const float cap : {0.0f, 30.0f}) {
            scalar_kernels().scale_and_cap(y.data(), 1.0f, cap, n);
            same_on_each_isa({guarded(dx)}, [&](const TrainingKernels& k, std::vector<Guarded>& out) {
                k.scale_and_cap_backward(y.data(), out[0].row(0), 0.7f, cap, n);
            });
        }
    }
}

TEST(TrainingStep, CrossEntropyAndAdamw) {
    for (const int n : kLengths) {
        Random random(static_cast<unsigned>(n));
        const std::vector<Guarded> outputs = {guarded(random.floats(n, -9.0f, 9.0f)), guarded(random.floats(n)),
                                              guarded(random.floats(n)), guarded(random.floats(n, 0.0f, 1.0f))};
        const std::vector<float> grads = random.floats(n);
        const double nats = scalar_training().cross_entropy(Guarded(outputs[0]).row(0), n, n / 2, 0.3f, true);
        const double squares = scalar_training().sum_of_squares(grads.data(), n);
        same_on_each_isa(outputs, [&](const TrainingKernels& k, std::vector<Guarded>& out) {
            EXPECT_EQ(k.cross_entropy(out[0].row(0), n, n / 2, 0.3f, true), nats);
            EXPECT_EQ(k.sum_of_squares(grads.data(), n), squares);
            k.adamw({out[1].row(0), grads.data(), out[2].row(0), out[3].row(0), n, 0.5f, 0.9f, 0.1f, 0.99f, 0.01f,
                     1e-4f, 0.02f, 1.5f, 1e-8f});
        });
    }
}

// Beside the same step on the widened mean, across the ends of the pieces.
TEST(TrainingStep, AdamwRoundsAMeanInBfloat16) {
    for (const int n : {0, 1, 15, 16, 17, 1024, 1025, 2500}) {
        Random random(static_cast<unsigned>(n));
        const std::vector<float> grads = random.floats(n), params = random.floats(n), drawn = random.floats(n);
        const std::vector<float> squares = random.floats(n, 0.0f, 1.0f);
        std::vector<BFloat16> start;
        for (const float x : drawn) start.push_back(to_bfloat16(x));
        if (n > 16) start[16] = to_bfloat16(kNaN);
        on_each_training_isa([&](const TrainingKernels& k) {
            std::vector<float> p = params, v = squares, wide_p = params, wide_v = squares, wide;
            std::vector<BFloat16> m = start;
            for (const BFloat16 x : start) wide.push_back(to_float(x));
            k.adamw_bf16({p.data(), grads.data(), m.data(), v.data(), n, 0.5f, 0.9f, 0.1f, 0.99f, 0.01f, 1e-4f, 0.02f,
                          1.5f, 1e-8f});
            k.adamw({wide_p.data(), grads.data(), wide.data(), wide_v.data(), n, 0.5f, 0.9f, 0.1f, 0.99f, 0.01f, 1e-4f,
                     0.02f, 1.5f, 1e-8f});
            for (std::size_t i = 0; i < m.size(); ++i) {
                EXPECT_EQ(m[i].bits, to_bfloat16(wide[i]).bits);
                EXPECT_EQ(float_bits(p[i]), float_bits(wide_p[i]));
                EXPECT_EQ(float_bits(v[i]), float_bits(wide_v[i]));
            }
        });
    }
}

struct AttentionCase {
    int n_batch, n_ctx, n_head, n_kv_head, head_dim;
};

// With what lies in the scratch memory being NaN, and every number of threads.
TEST(TrainingAttention, IsTheSameForAllThreadsAndInstructionSets) {
    for (const AttentionCase c : {AttentionCase{1, 1, 1, 1, 1}, AttentionCase{2, 5, 4, 2, 3},
                                  AttentionCase{1, 70, 2, 1, 20}, AttentionCase{2, 64, 2, 2, 16}}) {
        Random random(17);
        const int rows = c.n_batch * c.n_ctx, width = (c.n_head + 2 * c.n_kv_head) * c.head_dim,
                  n_out = c.n_head * c.head_dim;
        const std::vector<float> qkv = random.floats(rows * width), dout = random.floats(rows * n_out);
        const std::vector<float> slopes = random.floats(c.n_head, 0.0f, 0.3f);
        const SequenceRule rules[] = {{}, {7, 1.5f, slopes.data()}, {64, 0.0f, nullptr}, {0, 0.4f, nullptr}};
        for (const bool dropped : {false, true})
            for (const SequenceRule& rule : rules) {
                training::AttentionBatch batch{};
                batch.n_batch = c.n_batch;
                const DropoutMask mask = dropped ? DropoutMask{99, 1u << 31, 2.0f} : DropoutMask{};
                batch.sequence = {qkv.data(), c.n_ctx, c.n_head, c.n_kv_head, c.head_dim, 0,
                                  0.4f,       mask,    0,        nullptr,     rule};
                const std::vector<Guarded> outputs = {Guarded(rows, n_out, n_out),
                                                      Guarded(1, c.n_head * rows, c.n_head * rows),
                                                      Guarded(rows, width, width)};
                for (const int threads : {1, 2, 5}) {
                    same_on_each_isa(outputs, [&](const TrainingKernels& k, std::vector<Guarded>& out) {
                        with_team(&k == &scalar_training() ? 1 : threads, [&](Team& team) {
                            training::Scratch scratch;
                            constexpr std::size_t n = 1 << 18;
                            std::fill_n(scratch.take<float>(n), n, kNaN);
                            training::attention_forward(k.attention_f32, team, scratch, batch, out[0].row(0),
                                                        out[1].row(0));
                            std::fill_n(scratch.take<float>(n), n, kNaN);
                            training::attention_backward(k.attention_f32, team, scratch, batch,
                                                         {out[0].row(0), out[1].row(0), dout.data(), out[2].row(0)});
                        });
                    });
                }
            }
    }
}

}  // namespace
}  // namespace pygpt::test
