// What the tests of the trainer's C++ share.
#pragma once

#include "kernels/training/training_kernels.h"
#include "support.h"

namespace pygpt::test {

inline const TrainingKernels& best_training() { return training_kernels(best_kernels()); }
inline const TrainingKernels& scalar_training() { return training_kernels(scalar_kernels()); }

// f(kernels) for the trainer's table of each instruction set of this machine.
template <class F>
void on_each_training_isa(F f) {
    on_each_isa([&](const Kernels& kernels) { f(training_kernels(kernels)); });
}

}  // namespace pygpt::test
