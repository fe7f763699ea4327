#include "simd/avx512vnni.h"

#include "kernels/body/linear_int8.h"

namespace pygpt {

void linear_int8_avx512vnni(const LinearInt8Args& args);
void linear_int8_avx512vnni(const LinearInt8Args& args) { linear_int8<Avx512Vnni>(args); }

}  // namespace pygpt
