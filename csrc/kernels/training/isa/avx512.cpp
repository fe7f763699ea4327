#include "simd/avx512.h"

#include "kernels/training/body/fill_training.h"

namespace pygpt {

extern const TrainingKernels kAvx512Training;
constinit const TrainingKernels kAvx512Training = fill_training<Avx512>();

}  // namespace pygpt
