// Each kernel's speed through ops/, beside the machine's roofs measured around it. bench/kernels.py builds and runs it.
//
//     pygpt_bench [threads] [isa] [samples] [only]
//
// `isa` may be empty, and only cases whose "name dtype shape" contains every word of `only` run. Every result is first
// compared with a plain computation in double. Then each sample times the kernel between two measurements of both
// roofs, so that a drift of the machine's speed cancels in the shares. One JSON object a line; rates are medians, in
// 10^9 bytes or operations a second.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "attention.h"
#include "base/buffer.h"
#include "base/lanes.h"
#include "cases.h"
#include "kernels/select.h"
#include "ops/linear.h"
#include "packing/matrix.h"
#include "roofs.h"
#include "threads/parallel.h"

namespace {

using namespace pygpt;

// --- products
// ---------------------------------------------------------------------------------------------------------

struct Shape {
    const char* name;
    int n, k;
    bool consumed = false;  // the model uses up its parts where they lie
};

double stored(float x, DType t) { return t == DType::bf16 ? to_float(to_bfloat16(x)) : x; }

void check_linear(const LinearCall& call, const std::vector<float>& weights, int rows) {
    const int n = call.weight.n(), k = call.weight.k();
    for (int row = 0; row < rows; row += std::max(1, rows / 5)) {
        for (int channel = n - 1; channel >= 0; channel -= n / 13) {
            double sum = 0.0, size = 0.0;
            for (int i = 0; i < k; ++i) {
                const auto at =
                    static_cast<std::size_t>(channel) * static_cast<std::size_t>(k) + static_cast<std::size_t>(i);
                const double product = stored(weights[at], call.weight.format().dtype) * call.x[row * call.ldx + i];
                sum += product;
                size += std::abs(product);
            }
            // int8: each factor is off by up to 1/127 of the largest of its group, and the signs of these errors vary
            const double tolerance = call.weight.format().dtype == DType::i8 ? 0.5 / std::sqrt(k) : 1e-5;
            expect(call.y[row * call.ldy + channel], sum + call.bias[channel], tolerance * size, "linear");
        }
    }
}

// Rows of x as the product of int8 wants them.
struct Quantized {
    Buffer q, scales, sums;
    QuantizedRows rows;

    Quantized(const Kernels& kernels, const std::vector<float>& x, int n_rows, int k) {
        const std::ptrdiff_t padded = round_up(n_rows, kInt8RowBlock);
        const std::ptrdiff_t ld = (padded_inputs(k) / 64 | 1) * 64, groups = int8_groups(k);
        q = Buffer(static_cast<std::size_t>(padded * ld));
        scales = Buffer(static_cast<std::size_t>(padded * groups) * 4);
        sums = Buffer(static_cast<std::size_t>(padded * groups) * 4);
        rows = {q.as<std::int8_t>(), ld, scales.as<float>(), sums.as<std::int32_t>(), padded};
        for (int row = 0; row < n_rows; ++row) {
            kernels.format(DType::i8).prepare(x.data() + static_cast<std::ptrdiff_t>(row) * k, k, rows.at(row, 0));
        }
    }
};

// As many copies of the matrix as fill a model are read by turns, so that none stays in a cache.
void bench_linear(Meter& meter, const Shape& shape, DType dtype) {
    // Prompts are read in steps of 256 rows; what lies between 1 and 64 is a batch, a server's or a guess's.
    const auto label = [&](int rows) {
        return std::string(shape.name) + " " + std::to_string(shape.k) + " -> " + std::to_string(shape.n) + ", rows " +
               std::to_string(rows);
    };
    const auto wants = [&](const char* kernel, int rows) { return meter.wants(kernel, name_of(dtype), label(rows)); };
    std::vector<int> wanted;
    for (const int rows : {1, 2, 4, 8, 12, 16, 24, 32, 64, 256, 512}) {
        if (wants("linear", rows) || (shape.consumed && wants("linear_consumed", rows))) wanted.push_back(rows);
    }
    if (wanted.empty()) return;
    const auto n = static_cast<std::size_t>(shape.n), k = static_cast<std::size_t>(shape.k);
    const std::vector<float> weights = noise(n * k, 1), bias = noise(n + 16, 2);
    const std::size_t copies = kModelBytes / (dtype == DType::i8 ? 4 : 1) / (n * k * size_of(dtype)) + 1;
    std::vector<PackedMatrix> packed;
    for (std::size_t i = 0; i < copies; ++i) {
        packed.emplace_back(shape.n, shape.k, meter.kernels.format(dtype));
        if (!packed.back().write({weights.data(), DType::f32, shape.n, shape.k, shape.k, 1}, {}, meter.team)) {
            throw std::runtime_error("int8 cannot hold the weights");
        }
    }
    for (const int rows : wanted) {
        const auto r = static_cast<std::size_t>(rows);
        const std::vector<float> x = noise(r * k, 3);
        Buffer y(r * n * 4), scratch(linear_scratch() * static_cast<std::size_t>(meter.team.size()) * 4);
        const Quantized quantized(meter.kernels, x, rows, shape.k);
        const auto call = [&](const PackedMatrix& w, float* to) -> LinearCall {
            return {w, bias.data(), x.data(), shape.k, quantized.rows, rows, to, shape.n};
        };
        std::size_t next = 0;
        const auto run = [&] { linear(meter.team, call(packed[next++ % copies], y.as<float>())); };
        const auto consumed = [&] {
            const LinearCall one = call(packed[next++ % copies], nullptr);
            linears(meter.team, {&one, 1}, scratch.as<float>(), [](int, const LinearPart&) {});
        };
        run();
        check_linear(call(packed[0], y.as<float>()), weights, rows);
        const double bytes = static_cast<double>(packed[0].bytes() + r * k * 4);
        const double written = static_cast<double>(r * n * 4), ops = 2.0 * static_cast<double>(r * n * k);
        if (wants("linear", rows)) {
            meter.measure({"linear", name_of(dtype), label(rows), bytes + written, ops, run});
        }
        if (shape.consumed && wants("linear_consumed", rows)) {
            meter.measure({"linear_consumed", name_of(dtype), label(rows), bytes, ops, consumed});
        }
    }
}

// --- what works row by row
// ---------------------------------------------------------------------------------------------

constexpr int kRows = 512, kRowsPerTask = 8;

// Times body(row) for kRows rows of `in` values that become `out`, and compares row 5 with want(its values, i).
void bench_rows(Meter& meter, const std::string& kernel, int rows, int in, int out, bool in_place,
                const std::function<void(const float* x, float* y)>& body,
                const std::function<double(const float* x, int i)>& want) {
    if (!meter.wants(kernel, "float32")) return;
    const std::vector<float> x = noise(static_cast<std::size_t>(rows) * static_cast<std::size_t>(in), 6);
    std::vector<float> y(static_cast<std::size_t>(rows) * static_cast<std::size_t>(out));
    const auto run = [&] {
        meter.team.parallel_for(ceil_div(rows, kRowsPerTask), [&](int task, int) {
            for (int row = task * kRowsPerTask; row < std::min(rows, (task + 1) * kRowsPerTask); ++row) {
                body(x.data() + row * in, y.data() + row * out);
            }
        });
    };
    const auto restore = [&] {
        if (in_place) std::copy(x.begin(), x.end(), y.begin());
    };
    restore();
    run();
    for (int i = 0; want != nullptr && i < out; ++i)
        expect(y[static_cast<std::size_t>(5 * out + i)], want(x.data() + 5 * in, i), 1e-5, kernel);
    const double bytes = 4.0 * rows * (in + out);
    meter.measure({kernel, "float32", std::to_string(rows) + " x " + std::to_string(out), bytes, 0.0, run, restore});
}

void bench_norms(Meter& meter) {
    const std::vector<float> weight = noise(kHidden, 7), bias = noise(kHidden, 8);
    constexpr float kEps = 1e-5f;
    const auto args = [&](const float* x, float* y) {
        return NormArgs{x, 0, y, 0, 1, kHidden, weight.data(), bias.data(), kEps};
    };
    const auto normed = [&](const float* x, int i, bool centred) {
        const double mean = centred ? std::accumulate(x, x + kHidden, 0.0) / kHidden : 0.0;
        double squares = 0.0;
        for (int j = 0; j < kHidden; ++j) squares += (x[j] - mean) * (x[j] - mean);
        return (x[i] - mean) / std::sqrt(squares / kHidden + kEps) * weight[static_cast<std::size_t>(i)];
    };
    bench_rows(
        meter, "layer_norm", kRows, kHidden, kHidden, false,
        [&](const float* x, float* y) { meter.kernels.layer_norm(args(x, y)); },
        [&](const float* x, int i) { return normed(x, i, true) + bias[static_cast<std::size_t>(i)]; });
    bench_rows(
        meter, "quantize", kRows, kHidden, kHidden / 4 + 2 * int8_groups(kHidden), false,
        [&](const float* x, float* y) {  // q, the scales and the sums, one after the other
            float* scales = y + kHidden / 4;
            auto* sums = reinterpret_cast<std::int32_t*>(scales + int8_groups(kHidden));
            meter.kernels.format(DType::i8).prepare(x, kHidden,
                                                    {reinterpret_cast<std::int8_t*>(y), 0, scales, sums, 1});
        },
        nullptr);
    bench_rows(
        meter, "rms_norm", kRows, kHidden, kHidden, false,
        [&](const float* x, float* y) { meter.kernels.rms_norm(args(x, y)); },
        [&](const float* x, int i) { return normed(x, i, false); });
}

double gelu_tanh(double x) { return 0.5 * x * (1.0 + std::tanh(0.79788456080286536 * (x + 0.044715 * x * x * x))); }

void bench_elements(Meter& meter) {
    constexpr int kInner = 4 * kHidden;
    bench_rows(
        meter, "gelu", kRows, kInner, kInner, true,
        [&](const float*, float* y) { meter.kernels.activate(Activation::gelu, y, kInner); },
        [](const float* x, int i) { return 0.5 * x[i] * (1.0 + std::erf(x[i] / std::sqrt(2.0))); });
    bench_rows(
        meter, "gelu_tanh", kRows, kInner, kInner, true,
        [&](const float*, float* y) { meter.kernels.activate(Activation::gelu_tanh, y, kInner); },
        [](const float* x, int i) { return gelu_tanh(x[i]); });
    bench_rows(
        meter, "silu gate", kRows, 2 * kInner, kInner, false,
        [&](const float* x, float* y) { meter.kernels.activate_gated(Activation::silu, x, y, kInner); },
        [](const float* x, int i) {
            const double gate = x[i / 16 * 32 + i % 16];
            return gate / (1.0 + std::exp(-gate)) * x[i / 16 * 32 + 16 + i % 16];
        });
    double log_sum = 0.0;  // of the one row that is checked, computed at its first value
    bench_rows(
        meter, "log_softmax", 16, kVocabulary, kVocabulary, false,
        [&](const float* x, float* y) { meter.kernels.log_softmax(x, y, kVocabulary); },
        [&](const float* x, int i) {
            if (i == 0) {
                for (int j = 0; j < kVocabulary; ++j) log_sum += std::exp(static_cast<double>(x[j]));
                log_sum = std::log(log_sum);
            }
            return x[i] - log_sum;
        });
}

void bench_all(Meter& meter) {
    const Shape shapes[] = {{"qkv", 3 * kHidden, kHidden},          {"attention out", kHidden, kHidden},
                            {"mlp up", 4 * kHidden, kHidden, true}, {"mlp down", kHidden, 4 * kHidden},
                            {"head", kVocabulary, kHidden},         {"Qwen2.5 0.5B up", 9728, 896, true},
                            {"Qwen2.5 0.5B down", 896, 4864}};
    for (const DType dtype : {DType::i8, DType::f32, DType::bf16}) {
        for (const Shape& shape : shapes) bench_linear(meter, shape, dtype);
    }
    for (const DType dtype : {DType::f32, DType::f16, DType::i8}) {
        bench_attention(meter, dtype, "decode at 900", 1, 900);
        bench_attention(meter, dtype, "prefill 512", 512, 512);
    }
    bench_norms(meter);
    bench_elements(meter);
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> args(argv + 1, argv + argc);
    const auto arg = [&](std::size_t i, const char* otherwise) { return i < args.size() ? args[i] : otherwise; };
    try {
        const int threads = std::stoi(arg(0, "1")), samples = std::stoi(arg(2, "9"));
        if (threads < 1 || samples < 1) throw std::invalid_argument("threads and samples must be at least 1");
        const Kernels& kernels = select_kernels(arg(1, ""));
        std::printf("{\"isa\": \"%s\", \"threads\": %d, \"samples\": %d}\n", kernels.name, threads, samples);
        Threads(threads).run([&](Team& team) {
            Meter meter(kernels, team, samples, arg(3, ""));
            bench_all(meter);
        });
    } catch (const std::exception& error) {
        std::fprintf(stderr, "pygpt_bench: %s\n", error.what());
        return 1;
    }
    return 0;
}
