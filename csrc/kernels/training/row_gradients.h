// Contract: the backward passes of the norms.
#pragma once

namespace pygpt {

// The backward pass of a norm over `rows` rows of n values, C-contiguous.
struct NormBackwardArgs {
    const float* dy;      // (rows, n)
    const float* x;       // (rows, n)
    const float* weight;  // (n,)
    const float* stats;   // (rows, 2): mean, 1 / deviation; rms_norm: (rows, 1): 1 / root mean square
    float* dx;            // (rows, n)
    float* dweight;       // (n,): set to these rows' part
    float* dbias;         // the same; layer_norm only
    int rows;
    int n;
};

}  // namespace pygpt
