#include "training/row_passes.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "base/lanes.h"
#include "threads/parallel.h"

namespace pygpt::training {

namespace {

// Values that a task takes at least: some microseconds of work.
constexpr std::ptrdiff_t kGrain = 16384;
// Rows whose parts of a norm's dweight are added up in one place.
constexpr int kNormRows = 64;
// Values of one partial sum of squares.
constexpr std::ptrdiff_t kSquares = 65536;
// Columns of an embedding's gradient that a task takes.
constexpr int kColumns = 64;

// body(begin, end) for parts of [0, n) that begin at multiples of `step`.
template <class F>
void split(Team& team, std::ptrdiff_t n, std::ptrdiff_t step, F body) {
    const auto tasks = static_cast<int>(ceil_div(n, step));
    team.parallel_for(tasks, [&](int task, int) { body(task * step, std::min(n, (task + 1) * step)); });
}

std::ptrdiff_t row_grain(std::ptrdiff_t n) {
    return std::max<std::ptrdiff_t>(1, kGrain / std::max<std::ptrdiff_t>(1, n));
}

double power(double base, std::int64_t exponent) {  // the C library's differs between machines
    double result = 1.0;
    for (; exponent > 0; exponent >>= 1, base *= base) {
        if ((exponent & 1) != 0) result *= base;
    }
    return result;
}

}  // namespace

void dropout(const TrainingKernels& kernels, Team& team, const DropoutArgs& args) {
    split(team, args.rows, row_grain(args.n), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        DropoutArgs part = args;
        part.from += begin * args.n;
        if (args.plus != nullptr) part.plus += begin * args.n;
        part.to += begin * args.n;
        part.rows = end - begin;
        part.first_row += static_cast<std::uint64_t>(begin);
        kernels.dropout(part);
    });
}

void norm_forward(Team& team, void (*kernel)(const NormArgs&), const NormArgs& args) {
    const std::ptrdiff_t stats = args.bias == nullptr ? 1 : 2;
    split(team, args.rows, row_grain(args.n), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        NormArgs part = args;
        part.x += begin * args.ldx;
        part.y += begin * args.ldy;
        part.stats += begin * stats;
        part.rows = static_cast<int>(end - begin);
        kernel(part);
    });
}

void norm_backward(Team& team, Scratch& scratch, void (*kernel)(const NormBackwardArgs&),
                   const NormBackwardArgs& args) {
    const std::ptrdiff_t n = args.n, stats = args.dbias == nullptr ? 1 : 2, blocks = ceil_div(args.rows, kNormRows);
    float* const dweights = scratch.take<float>(static_cast<std::size_t>(2 * blocks * n));
    float* const dbiases = dweights + blocks * n;
    split(team, args.rows, kNormRows, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        NormBackwardArgs part = args;
        part.dy += begin * n;
        part.x += begin * n;
        part.dx += begin * n;
        part.stats += begin * stats;
        part.dweight = dweights + begin / kNormRows * n;
        part.dbias = dbiases + begin / kNormRows * n;
        part.rows = static_cast<int>(end - begin);
        kernel(part);
    });
    const auto add = [&](float* to, const float* parts) {
        for (std::ptrdiff_t block = 0; block < blocks; ++block) {
            for (std::ptrdiff_t i = 0; i < n; ++i) to[i] += parts[block * n + i];
        }
    };
    add(args.dweight, dweights);
    if (args.dbias != nullptr) add(args.dbias, dbiases);
}

void activation_forward(const TrainingKernels& kernels, Team& team, Activation f, const float* x, float* y,
                        std::ptrdiff_t n) {
    split(team, n, kGrain,
          [&](std::ptrdiff_t begin, std::ptrdiff_t end) { kernels.activation(f, x + begin, y + begin, end - begin); });
}

void activation_backward(const TrainingKernels& kernels, Team& team, Activation f, const float* dy, const float* x,
                         float* dx, std::ptrdiff_t n) {
    split(team, n, kGrain, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        kernels.activation_backward(f, dy + begin, x + begin, dx + begin, end - begin);
    });
}

void gated_activation_forward(const TrainingKernels& kernels, Team& team, Activation f, const float* gate_up, float* y,
                              int rows, int n) {
    split(team, rows, row_grain(n), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (std::ptrdiff_t row = begin; row < end; ++row) {
            const float* const gate = gate_up + row * 2 * n;
            kernels.gated_activation(f, gate, gate + n, y + row * n, n);
        }
    });
}

void gated_activation_backward(const TrainingKernels& kernels, Team& team, Activation f, const float* dy,
                               const float* gate_up, float* dgate_up, int rows, int n) {
    split(team, rows, row_grain(n), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (std::ptrdiff_t row = begin; row < end; ++row) {
            const float* const gate = gate_up + row * 2 * n;
            float* const dgate = dgate_up + row * 2 * n;
            kernels.gated_activation_backward(f, dy + row * n, gate, gate + n, dgate, dgate + n, n);
        }
    });
}

void rope_rows(const Kernels& kernels, Team& team, Scratch& scratch, const RopeCall& call) {
    const std::ptrdiff_t half = call.dim / 2, angles = call.n_ctx * half;
    const float* sin = call.sin;
    if (call.inverse) {  // the angle's negative
        float* const negative = scratch.take<float>(static_cast<std::size_t>(angles));
        std::transform(sin, sin + angles, negative, [](float s) { return -s; });
        sin = negative;
    }
    split(team, call.rows, row_grain(call.ld), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (std::ptrdiff_t row = begin; row < end; ++row) {
            const std::ptrdiff_t at = row % call.n_ctx * half;
            kernels.rope({call.x + row * call.ld, call.n_heads, call.head_dim, call.dim, call.interleaved,
                          call.cos + at, sin + at});
        }
    });
}

void embedding_backward(const Kernels& kernels, Team& team, const float* dx, const std::int32_t* ids, int rows, int n,
                        float* dweight) {
    split(team, n, kColumns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (std::ptrdiff_t row = 0; row < rows; ++row) {
            kernels.add(dweight + static_cast<std::ptrdiff_t>(ids[row]) * n + begin, dx + row * n + begin, 1.0f,
                        end - begin);
        }
    });
}

double sum_of_squares(const TrainingKernels& kernels, Team& team, Scratch& scratch, const float* x, std::ptrdiff_t n) {
    const std::ptrdiff_t blocks = ceil_div(n, kSquares);
    double* const parts = scratch.take<double>(static_cast<std::size_t>(blocks));
    split(team, n, kSquares, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        parts[begin / kSquares] = kernels.sum_of_squares(x + begin, end - begin);
    });
    double sum = 0.0;
    for (std::ptrdiff_t i = 0; i < blocks; ++i) sum += parts[i];
    return sum;
}

template <class Mean>
void adamw(const TrainingKernels& kernels, Team& team, float* params, const float* grads, Mean* m, float* v,
           std::ptrdiff_t n, const AdamwStep& s) {
    AdamwArgs<Mean> args{};
    args.grad_scale = static_cast<float>(s.grad_scale);
    args.beta1 = static_cast<float>(s.beta1);
    args.one_minus_beta1 = static_cast<float>(1.0 - s.beta1);
    args.beta2 = static_cast<float>(s.beta2);
    args.one_minus_beta2 = static_cast<float>(1.0 - s.beta2);
    args.decay = static_cast<float>(s.lr * s.weight_decay);
    args.step_size = static_cast<float>(s.lr / (1.0 - power(s.beta1, s.step)));
    args.v_scale = static_cast<float>(1.0 / std::sqrt(1.0 - power(s.beta2, s.step)));
    args.eps = static_cast<float>(s.eps);
    split(team, n, kGrain, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        AdamwArgs<Mean> part = args;
        part.params = params + begin;
        part.grads = grads + begin;
        part.m = m + begin;
        part.v = v + begin;
        part.n = end - begin;
        if constexpr (std::is_same_v<Mean, float>) {
            kernels.adamw(part);
        } else {
            kernels.adamw_bf16(part);
        }
    });
}

template void adamw(const TrainingKernels&, Team&, float*, const float*, float*, float*, std::ptrdiff_t,
                    const AdamwStep&);
template void adamw(const TrainingKernels&, Team&, float*, const float*, BFloat16*, float*, std::ptrdiff_t,
                    const AdamwStep&);

}  // namespace pygpt::training
