#include "simd/avx2.h"

#include "kernels/training/body/fill_training.h"

namespace pygpt {

extern const TrainingKernels kAvx2Training;
constinit const TrainingKernels kAvx2Training = fill_training<Avx2>();

}  // namespace pygpt
