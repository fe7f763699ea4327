#include "simd/avx512.h"

#include "kernels/body/fill.h"

namespace pygpt {

extern const Kernels kAvx512Kernels;
constinit const Kernels kAvx512Kernels = fill_table<Avx512>();

}  // namespace pygpt
