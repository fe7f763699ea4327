// Attention with products of bfloat16 factors in AVX-512's vectors, for training.
#include "simd/avx512bf16.h"

#include "kernels/training/body/sequence_attention_backward.h"

namespace pygpt {

extern const AttentionKernels kAvx512Bf16Attention;
constinit const AttentionKernels kAvx512Bf16Attention = {attention_forward<Avx512Bf16, BFloat16Pair>,
                                                         attention_backward<Avx512Bf16, BFloat16Pair>};

}  // namespace pygpt
