// Contract: C = A B or C += A B for any matrices, from factors that are packed for the one product.
#pragma once

#include <cstddef>

namespace pygpt {

// Packs a (k, n) matrix as panels [n / 16][k][16]; columns beyond n are zero.
struct PackPanelsArgs {
    const float* from;  // (k, n), row stride ld; transposed: stored as (n, k), row stride ld
    std::ptrdiff_t ld;
    bool transposed;
    int n;
    int k;
    float* to;
    std::ptrdiff_t panel_stride;  // between the starts of two panels, in floats
};

// Every output is one chain of fused multiply-adds over k = 0, 1, ..., from zero or from what c holds. So a chain can
// go on in the next call, and an output does not depend on how a product is cut.
struct MatmulArgs {
    const float* a;  // (k, rows) as panels: 16 rows side by side
    int rows;
    int k;
    const float* b;  // (k, n) as panels; both have panel stride 16 * k
    int n;
    float* c;  // (rows, n), row stride ldc
    std::ptrdiff_t ldc;
    bool add;           // from what c holds
    const float* bias;  // (n,) added at the end of the chain, or null
};

}  // namespace pygpt
