// Packing of bfloat16 factors, for the translation units that multiply them.
#pragma once

#include "base/lanes.h"
#include "kernels/training/panel_product.h"
#include "simd/avx512bf16.h"

namespace pygpt {

namespace {

using S = Avx512Bf16;

constexpr int kStep = kBf16Step;  // values of k that a tile product takes
constexpr int kTile = 16 * kStep;  // values of a factor's tile

__mmask16 first_lanes(int n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1); }

// 16 rows of 16 pairs of values change places with their columns.
void transpose(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 8; ++i) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
        r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

// The tile of 16 lanes and kStep inputs from (lane, i) on: rows of lanes, or of pairs of inputs.
template <bool pairs>
void pack_tile(const PackPanelsArgs& p, int lane, int i) {
    __m512i r[16];
    const int lanes = p.n - lane, inputs = p.k - i;
    for (int j = 0; j < 16; ++j) {
        if (p.transposed) {  // row j: one lane, 16 pairs of inputs
            const float* at = p.from + (lane + j) * p.ld + i;
            r[j] = j < lanes ? S::in_order({_mm512_maskz_loadu_ps(first_lanes(inputs), at)},
                                           {_mm512_maskz_loadu_ps(first_lanes(inputs - 16), at + 16)})
                                   .v
                             : _mm512_setzero_si512();
        } else {  // row j: one pair of inputs, 16 lanes
            const float* at = p.from + (i + 2 * j) * p.ld + lane;
            const __mmask16 mask = first_lanes(lanes);
            const __m512 first = _mm512_maskz_loadu_ps(2 * j < inputs ? mask : __mmask16{0}, at);
            const __m512 second = _mm512_maskz_loadu_ps(2 * j + 1 < inputs ? mask : __mmask16{0}, at + p.ld);
            r[j] = S::side_by_side({first}, {second}).v;
        }
    }
    if (p.transposed == pairs) transpose(r);
    BFloat16* to = static_cast<BFloat16*>(p.to) + lane / 16 * p.panel_stride + i * 16;
    for (int j = 0; j < 16; ++j) _mm512_storeu_si512(to + j * kStep, r[j]);
}

// Packs a factor, along what lies side by side in memory first.
template <bool pairs>
void pack_bf16(const PackPanelsArgs& p) {
    if (p.transposed) {
        for (int lane = 0; lane < p.n; lane += 16) {
            for (int i = 0; i < p.k; i += kStep) pack_tile<pairs>(p, lane, i);
        }
    } else {
        for (int i = 0; i < p.k; i += kStep) {
            for (int lane = 0; lane < p.n; lane += 16) pack_tile<pairs>(p, lane, i);
        }
    }
}

}  // namespace

}  // namespace pygpt
