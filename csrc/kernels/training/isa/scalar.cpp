#include "simd/scalar.h"

#include "kernels/training/body/fill_training.h"

namespace pygpt {

extern const TrainingKernels kScalarTraining;
constinit const TrainingKernels kScalarTraining = fill_training<Scalar>();

}  // namespace pygpt
