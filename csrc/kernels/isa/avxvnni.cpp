#include "simd/avxvnni.h"

#include "kernels/body/cache_int8.h"
#include "kernels/body/linear_int8.h"

namespace pygpt {

void linear_int8_avxvnni(const LinearArgs& args);
void linear_int8_avxvnni(const LinearArgs& args) { linear_int8<AvxVnni>(args); }

void attention_int8_avxvnni(const AttentionArgs& args);
void attention_int8_avxvnni(const AttentionArgs& args) { attention<AvxVnni, Int8Cache<AvxVnni>>(args); }

}  // namespace pygpt
