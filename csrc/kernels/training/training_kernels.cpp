#include "kernels/training/training_kernels.h"

#include <string_view>

#include "cpu/features.h"

namespace pygpt {

extern const TrainingKernels kScalarTraining;
#if defined(PYGPT_X86)
extern const TrainingKernels kAvx2Training;
extern const TrainingKernels kAvx512Training;
extern const MatmulFormat kAvx512Bf16Matmul, kAmxBf16Matmul;
extern const AttentionKernels kAvx512Bf16Attention;
#elif defined(PYGPT_ARM64)
extern const TrainingKernels kNeonTraining;
#endif

const TrainingKernels& training_kernels(const Kernels& kernels) {
#if defined(PYGPT_X86)
    const auto with = [](const MatmulFormat& format) {
        TrainingKernels k = kAvx512Training;
        k.matmul_bf16 = format;
        k.attention_bf16 = kAvx512Bf16Attention;
        return k;
    };
    static const TrainingKernels avx512_bf16 = with(kAvx512Bf16Matmul), amx_bf16 = with(kAmxBf16Matmul);
    if (std::string_view(kernels.vectors) == kAvx512Training.vectors) {
        const CpuFeatures cpu = detect_cpu();
        const bool has_tiles = std::string_view(kernels.name) == "amx" && cpu.amx_bf16;  // asked for from the kernel
        if (cpu.avx512_bf16) return has_tiles ? amx_bf16 : avx512_bf16;
    }
    for (const TrainingKernels* k : {&kAvx512Training, &kAvx2Training}) {
        if (std::string_view(kernels.vectors) == k->vectors) return *k;
    }
#elif defined(PYGPT_ARM64)
    if (std::string_view(kernels.vectors) == kNeonTraining.vectors) return kNeonTraining;
#endif
    return kScalarTraining;  // which any vectors without kernels of their own have to equal
}

}  // namespace pygpt
