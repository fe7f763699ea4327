#include "simd/neon.h"

#include "kernels/body/fill.h"

namespace pygpt {

extern const Kernels kNeonKernels;
constinit const Kernels kNeonKernels = fill_table<Neon>();

}  // namespace pygpt
