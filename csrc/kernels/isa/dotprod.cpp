#include "simd/dotprod.h"

#include "kernels/body/cache_int8.h"
#include "kernels/body/linear_int8.h"

namespace pygpt {

void linear_int8_dotprod(const LinearArgs& args);
void linear_int8_dotprod(const LinearArgs& args) { linear_int8<DotProd>(args); }

void attention_int8_dotprod(const AttentionArgs& args);
void attention_int8_dotprod(const AttentionArgs& args) { attention<DotProd, Int8Cache<DotProd>>(args); }

}  // namespace pygpt
