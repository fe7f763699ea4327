// Contract: C = A B or C += A B, from factors that are packed in panels for the one product.
#pragma once

#include <cstddef>

namespace pygpt {

// Packs a (k, n) matrix in panels of 16 columns; columns beyond n are zero.
struct PackPanelsArgs {
    const float* from;  // (k, n), row stride ld; transposed: stored as (n, k), row stride ld
    std::ptrdiff_t ld;
    bool transposed;
    int n;
    int k;
    void* to;
    std::ptrdiff_t panel_stride;  // between the starts of two panels, in values
};

struct MatmulArgs {
    const void* a;  // (k, rows) as panels: 16 rows side by side
    int rows;
    int k;
    const void* b;  // (k, n) as panels; both have panel stride 16 * (k rounded up to a multiple of `step`)
    int n;
    float* c;  // (rows, n), row stride ldc
    std::ptrdiff_t ldc;
    bool add;           // to what c holds
    const float* bias;  // (n,) added at the end, or null
};

// The kernels of one format of packed factors.
//
// float32: panels [k][16]. Every output is one chain of fused multiply-adds over k = 0, 1, ..., from zero or from what
// c holds. So a chain can go on in the next call, and an output does not depend on how a product is cut.
//
// bfloat16: values are rounded to nearest even as they are packed, products are summed in float32. Panels of B are
// [k / 32][16][16][2], 16 pairs along k, and so are those of A, but for AMX, [k / 32][16][32]; values beyond k are
// zero. How the hardware rounds within a pair is its own, so bits are equal for equal machines only.
constexpr int kBf16Step = 32;

struct MatmulFormat {
    void (*pack_a)(const PackPanelsArgs&);
    void (*pack_b)(const PackPanelsArgs&);
    void (*multiply)(const MatmulArgs&);  // null where there is no such format
    int step;  // k is packed in multiples of it
    int bytes;  // of a value
};

}  // namespace pygpt
