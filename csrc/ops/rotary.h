// Cosines and sines for rotary position embedding.
#pragma once

#include <span>

namespace pygpt {

// cos and sin (inv_freq.size(),) of position * inv_freq[i]: exact products and reduction in double precision, the same
// bits on every machine, within 1 ulp of the true value in float32 for positions below 2^20.
void rotary_table(int position, std::span<const double> inv_freq, float* cos, float* sin);

}  // namespace pygpt
