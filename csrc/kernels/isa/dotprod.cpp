#include "simd/dotprod.h"

#include "kernels/body/linear_int8.h"

namespace pygpt {

void linear_int8_dotprod(const LinearArgs& args);
void linear_int8_dotprod(const LinearArgs& args) { linear_int8<DotProd>(args); }

}  // namespace pygpt
