// y = x W^T + b and its gradients, on a team of threads. Matrices are C-contiguous.
#pragma once

#include "kernels/training/training_kernels.h"
#include "training/matmul.h"

namespace pygpt::training {

struct LinearSizes {
    int rows, inputs, outputs;
};

// x (rows, inputs), weight (outputs, inputs), bias (outputs,) or null; y (rows, outputs).
void linear_forward(Team& team, Matmul& matmul, const LinearSizes& sizes, const float* x, const float* weight,
                    const float* bias, float* y);

struct LinearGradients {
    const float* dy;  // (rows, outputs)
    const float* x;  // or null without dweight
    const float* weight;
    float* dweight;  // added to; or null: the weight is frozen
    float* dbias;    // added to; or null
    float* dx;
};
void linear_backward(const TrainingKernels& kernels, Team& team, Matmul& matmul, const LinearSizes& sizes,
                     const LinearGradients& g);

}  // namespace pygpt::training
