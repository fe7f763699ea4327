#include "simd/neon.h"

#include "kernels/training/body/fill_training.h"

namespace pygpt {

extern const TrainingKernels kNeonTraining;
constinit const TrainingKernels kNeonTraining = fill_training<Neon>();

}  // namespace pygpt
