// The training primitives that work on rows or on flat arrays, on a team of threads. Arrays are C-contiguous; results
// do not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/buffer.h"
#include "kernels/training/training_kernels.h"

namespace pygpt {

class Team;

namespace training {

// Memory that calls reuse, so that none of them allocates but the largest so far.
class Scratch {
public:
    // At least n values, of any content.
    template <class T>
    T* take(std::size_t n) {
        if (buffer_.size() < n * sizeof(T)) {
            buffer_ = Buffer();
            buffer_ = Buffer(n * sizeof(T));
        }
        return buffer_.as<T>();
    }

private:
    Buffer buffer_;
};

void dropout(const TrainingKernels& kernels, Team& team, const DropoutArgs& args);

// `kernel` is a norm of the table.
void norm_forward(Team& team, void (*kernel)(const NormArgs&), const NormArgs& args);
// `kernel` is the norm's backward pass. Here dweight and dbias are added to.
void norm_backward(Team& team, Scratch& scratch, void (*kernel)(const NormBackwardArgs&), const NormBackwardArgs& args);

void activation_forward(const TrainingKernels& kernels, Team& team, Activation f, const float* x, float* y,
                        std::ptrdiff_t n);
void activation_backward(const TrainingKernels& kernels, Team& team, Activation f, const float* dy, const float* x,
                         float* dx, std::ptrdiff_t n);
// A row of gate_up holds n gates, then the n values that they gate.
void gated_activation_forward(const TrainingKernels& kernels, Team& team, Activation f, const float* gate_up, float* y,
                              int rows, int n);
void gated_activation_backward(const TrainingKernels& kernels, Team& team, Activation f, const float* dy,
                               const float* gate_up, float* dgate_up, int rows, int n);

struct RopeCall {
    float* x;  // (rows, ld): a row's first n_heads * head_dim values turn in place
    int rows;
    int ld;
    int n_heads, head_dim;
    int n_ctx;  // row r has position r % n_ctx
    int dim;
    const float* cos;  // (n_ctx, dim / 2)
    const float* sin;
    bool interleaved;
    bool inverse;
};
void rope_rows(const Kernels& kernels, Team& team, Scratch& scratch, const RopeCall& call);

// dweight[ids[r]] += dx[r], row by row.
void embedding_backward(const Kernels& kernels, Team& team, const float* dx, const std::int32_t* ids, int rows, int n,
                        float* dweight);

double sum_of_squares(const TrainingKernels& kernels, Team& team, Scratch& scratch, const float* x, std::ptrdiff_t n);

struct AdamwStep {
    double lr, beta1, beta2, eps, weight_decay;
    std::int64_t step;  // from 1
    double grad_scale;
};
// Mean: float or BFloat16.
template <class Mean>
void adamw(const TrainingKernels& kernels, Team& team, float* params, const float* grads, Mean* m, float* v,
           std::ptrdiff_t n, const AdamwStep& step);

}  // namespace training
}  // namespace pygpt
