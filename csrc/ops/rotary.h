// Cosines and sines for rotary position embedding.
#pragma once

#include <span>

namespace pygpt {

// cos and sin (inv_freq.size(),) of the angle position * inv_freq[i], rounded to double, times `factor`: the same bits
// on every machine, within 1 ulp in float32 of the cosine and sine of that angle for positions below 2^20.
void rotary_table(int position, std::span<const double> inv_freq, double factor, float* cos, float* sin);

}  // namespace pygpt
