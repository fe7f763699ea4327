#include "kernels/training/training_kernels.h"

#include <string_view>

#include "cpu/features.h"

namespace pygpt {

extern const TrainingKernels kScalarTraining;
#if defined(PYGPT_X86)
extern const TrainingKernels kAvx2Training;
extern const TrainingKernels kAvx512Training;
extern const MatmulFormat kAmxBf16Matmul;
#elif defined(PYGPT_ARM64)
extern const TrainingKernels kNeonTraining;
#endif

const TrainingKernels& training_kernels(const Kernels& kernels) {
#if defined(PYGPT_X86)
    static const TrainingKernels amx_bf16 = [] {
        TrainingKernels k = kAvx512Training;
        k.matmul_bf16 = kAmxBf16Matmul;
        return k;
    }();
    if (std::string_view(kernels.name) == "amx") {  // which has asked the kernel for the tiles
        const CpuFeatures cpu = detect_cpu();
        if (cpu.amx_bf16 && cpu.avx512_bf16) return amx_bf16;
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
