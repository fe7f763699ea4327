#include "simd/avx2.h"

#include "kernels/body/fill.h"

namespace pygpt {

extern const Kernels kAvx2Kernels;
constinit const Kernels kAvx2Kernels = fill_table<Avx2>();

}  // namespace pygpt
