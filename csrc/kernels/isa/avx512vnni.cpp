#include "simd/avx512vnni.h"

#include "kernels/body/cache_int8.h"
#include "kernels/body/linear_int8.h"

namespace pygpt {

void linear_int8_avx512vnni(const LinearArgs& args);
void linear_int8_avx512vnni(const LinearArgs& args) { linear_int8<Avx512Vnni>(args); }

void attention_int8_avx512vnni(const AttentionArgs& args);
void attention_int8_avx512vnni(const AttentionArgs& args) { attention<Avx512Vnni, Int8Cache<Avx512Vnni>>(args); }

}  // namespace pygpt
