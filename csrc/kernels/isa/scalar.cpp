#include "simd/scalar.h"

#include "kernels/body/fill.h"

namespace pygpt {

extern const Kernels kScalarKernels;
constinit const Kernels kScalarKernels = fill_table<Scalar>();

}  // namespace pygpt
