// The 16-lane vector on any machine: an array. It defines what the other instruction sets must reproduce bit by bit.
//
// Every simd/ header gives one struct with the same members. All have internal linkage: a translation unit that is
// compiled for one instruction set must not offer its code to the others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/dtype.h"
#include "base/mxfp4.h"

namespace pygpt {
namespace {

struct Scalar {
    static constexpr const char* kName = "scalar";
    static constexpr int kRegisters = 1;      // how many 16-lane vectors it pays to keep live
    static constexpr int kInt8Registers = 1;  // how many sums of int8 products
    static constexpr int kInt8Rows = 4;       // of a tile of them
    static constexpr int kPairRows = 0;       // of a tile of products in pairs, of many rows; 0: no such products

    struct F32 {
        float v[16];
    };

    static F32 zero() { return set1(0.0f); }
    static F32 set1(float x) {
        F32 r;
        for (float& v : r.v) v = x;
        return r;
    }
    static F32 load(const float* p) {
        F32 r;
        for (int i = 0; i < 16; ++i) r.v[i] = p[i];
        return r;
    }
    static F32 load(const BFloat16* p) {
        F32 r;
        for (int i = 0; i < 16; ++i) r.v[i] = to_float(p[i]);
        return r;
    }
    static F32 load(const Half* p) {
        F32 r;
        for (int i = 0; i < 16; ++i) r.v[i] = to_float(p[i]);
        return r;
    }
    // The first n lanes (n >= 16: all), the others zero; reads nothing beyond them. Inline enough that a loop over
    // whole vectors, which says 16, is one over load() and store().
    static F32 load_n(const float* p, int n) {
        F32 r;
        for (int i = 0; i < 16; ++i) r.v[i] = i < n ? p[i] : 0.0f;
        return r;
    }
    static void store(float* p, F32 a) {
        for (int i = 0; i < 16; ++i) p[i] = a.v[i];
    }
    static void store(Half* p, F32 a) {
        for (int i = 0; i < 16; ++i) p[i] = to_half(a.v[i]);
    }
    static void store_n(float* p, F32 a, int n) {
        for (int i = 0; i < 16 && i < n; ++i) p[i] = a.v[i];
    }

    static F32 add(F32 a, F32 b) {
        for (int i = 0; i < 16; ++i) a.v[i] += b.v[i];
        return a;
    }
    static F32 sub(F32 a, F32 b) {
        for (int i = 0; i < 16; ++i) a.v[i] -= b.v[i];
        return a;
    }
    static F32 mul(F32 a, F32 b) {
        for (int i = 0; i < 16; ++i) a.v[i] *= b.v[i];
        return a;
    }
    static F32 div(F32 a, F32 b) {
        for (int i = 0; i < 16; ++i) a.v[i] /= b.v[i];
        return a;
    }
    static F32 sqrt(F32 a) {
        for (float& v : a.v) v = __builtin_sqrtf(v);
        return a;
    }
    // a * b + c with one rounding.
    static F32 fma(F32 a, F32 b, F32 c) {
        for (int i = 0; i < 16; ++i) c.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
        return c;
    }
    // As x86 does: b where the comparison is false, so also where either is NaN.
    static F32 min(F32 a, F32 b) {
        for (int i = 0; i < 16; ++i) b.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
        return b;
    }
    static F32 max(F32 a, F32 b) {
        for (int i = 0; i < 16; ++i) b.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
        return b;
    }
    // a < b ? yes : no, lane by lane.
    static F32 select_less(F32 a, F32 b, F32 yes, F32 no) {
        for (int i = 0; i < 16; ++i) no.v[i] = a.v[i] < b.v[i] ? yes.v[i] : no.v[i];
        return no;
    }
    // The first n lanes of a (n <= 0: none, n >= 16: all), the others of rest.
    static F32 first_n(F32 a, int n, F32 rest) {
        for (int i = 0; i < 16; ++i) rest.v[i] = i < n ? a.v[i] : rest.v[i];
        return rest;
    }
    static F32 abs(F32 a) {
        for (float& v : a.v) v = bits_float(float_bits(v) & 0x7fffffffu);
        return a;
    }
    // The magnitude of a with the sign of s.
    static F32 copy_sign(F32 a, F32 s) {
        for (int i = 0; i < 16; ++i) {
            a.v[i] = bits_float((float_bits(a.v[i]) & 0x7fffffffu) | (float_bits(s.v[i]) & 0x80000000u));
        }
        return a;
    }
    // Adds the low bits of n's representation to a's exponent field.
    static F32 add_exponent(F32 a, F32 n) {
        for (int i = 0; i < 16; ++i) a.v[i] = bits_float(float_bits(a.v[i]) + (float_bits(n.v[i]) << 23));
        return a;
    }

    // 16 rows of 16 values, row stride ld, turned: to[16 * i + c] = from[c * ld + i].
    static void transpose(const float* from, std::ptrdiff_t ld, float* to) {
        for (int c = 0; c < 16; ++c) {
            for (int i = 0; i < 16; ++i) to[16 * i + c] = from[c * ld + i];
        }
    }

    // The one tree of every lane sum: i + 8, then i + 4, i + 2, i + 1.
    static float reduce_add(F32 a) {
        for (int half = 8; half > 0; half /= 2) {
            for (int i = 0; i < half; ++i) a.v[i] += a.v[i + half];
        }
        return a.v[0];
    }
    static float reduce_max(F32 a) {
        for (int half = 8; half > 0; half /= 2) {
            for (int i = 0; i < half; ++i) a.v[i] = a.v[i] > a.v[i + half] ? a.v[i] : a.v[i + half];
        }
        return a.v[0];
    }

    // MXFP4 (base/mxfp4.h): 16 scales; and 16 bytes' doubled values, of the low halves and of the high ones.
    static F32 load_half_scales(const std::uint8_t* p) {
        F32 r;
        for (int i = 0; i < 16; ++i) r.v[i] = bits_float(half_scale_bits(p[i]));
        return r;
    }
    static void load_fp4(const std::uint8_t* p, F32& low, F32& high) {
        for (int i = 0; i < 16; ++i) {
            low.v[i] = kFp4Doubled[p[i] & 15];
            high.v[i] = kFp4Doubled[p[i] >> 4];
        }
    }

    // Largest magnitudes, lane by lane; here a NaN is larger than infinity.
    static F32 larger_magnitude(F32 a, F32 b) {
        for (int i = 0; i < 16; ++i) {
            const std::uint32_t x = float_bits(a.v[i]) & 0x7fffffffu, y = float_bits(b.v[i]) & 0x7fffffffu;
            a.v[i] = bits_float(x > y ? x : y);
        }
        return a;
    }
    static float reduce_magnitude(F32 a) {
        std::uint32_t most = 0;
        for (const float v : a.v) {
            const std::uint32_t x = float_bits(v) & 0x7fffffffu;
            most = x > most ? x : most;
        }
        return bits_float(most);
    }
    // The lanes times the Hadamard matrix of size 16: sums and differences at distances 8, 4, 2, 1.
    static F32 rotate_lanes(F32 a) {
        for (int d = 8; d > 0; d /= 2) {
            for (int i = 0; i < 16; ++i) {
                if ((i & d) != 0) continue;
                const float x = a.v[i], y = a.v[i + d];
                a.v[i] = x + y;
                a.v[i + d] = x - y;
            }
        }
        return a;
    }
    // Integers in [-128, 127] as bytes: 16 in order, or those of four vectors, lane by lane.
    static void store_i8(std::int8_t* p, F32 a) {
        for (int i = 0; i < 16; ++i) p[i] = static_cast<std::int8_t>(a.v[i]);
    }
    static void store_i8x4(std::int8_t* p, F32 a, F32 b, F32 c, F32 d) {
        for (int i = 0; i < 16; ++i) {
            p[4 * i] = static_cast<std::int8_t>(a.v[i]);
            p[4 * i + 1] = static_cast<std::int8_t>(b.v[i]);
            p[4 * i + 2] = static_cast<std::int8_t>(c.v[i]);
            p[4 * i + 3] = static_cast<std::int8_t>(d.v[i]);
        }
    }

    // int8 products: 16 sums in int32, of 16 channels' 4 weights each times the same 4 activations in [-127, 127].
    struct I32 {
        std::int32_t v[16];
    };
    struct Weights {
        const std::int8_t* at;
    };
    struct Inputs {
        const std::int8_t* at;
    };
    // What sums start from; `sum` is that of all the activations they will be given.
    static I32 dot_start(std::int32_t) { return {}; }
    static Weights load_weights(const std::int8_t* p) { return {p}; }
    static Inputs broadcast_i8x4(const std::int8_t* p) { return {p}; }
    static I32 dot(I32 sum, Weights w, Inputs x) {
        for (int i = 0; i < 16; ++i) {
            for (int j = 0; j < 4; ++j) sum.v[i] += w.at[4 * i + j] * x.at[j];
        }
        return sum;
    }
    static F32 to_f32(I32 a) {
        F32 r;
        for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(a.v[i]);
        return r;
    }

    // An instruction set with kPairRows > 0 also has, for products in 16 bits: kPairPanels, of such a tile; kPairLeast,
    // rows from which on they win; PairSum, 16 sums in int32, or 16 channels' pairs of weights; pair_zero();
    // load_pairs(p) of 32 values, [16][2], aligned; broadcast_pair(p) of 2; to_f32(sums); widen(p, even, odd): of 32
    // bytes the 16 even ones and the 16 odd ones, to aligned places; and kWinograd, whether it multiplies by Winograd's
    // inner product (kernels/body/linear_int8_pairs.h). If not: add_pairs(sum, w, x), the sums plus both products of
    // each channel. If so: kPairPanels is 1; load_four(p) of 64 values, [2][16][2], aligned, the first and second pairs
    // w0 and w1; add_four(sum, w, x0, x1), which adds the products of the pairs w0 + x1 and w1 + x0; load and store of
    // such sums, aligned, and set1; sub(a, b); and sub_products(sum, a, b), the sums less both products of a channel.

    // Attention's products: 16 columns' 4 int8 each, 64 bytes at p, times the same 4 numbers of a row. A row holds 64
    // integers in a form of its own; put() writes 16 of them, the place-th on. kVectors: registers of a Sums; kSums:
    // registers that it pays to fill with them; kRows: rows of a tile.
    struct Int16Products {
        static constexpr int kRowBytes = 128;
        static constexpr int kVectors = 1;
        static constexpr int kSums = 1;
        static constexpr int kRows = 1;
        struct Sums {
            std::int32_t v[16];
        };
        struct Block {
            const std::int8_t* at;
        };

        static void put(std::byte* row, int place, F32 x) {
            for (int i = 0; i < 16; ++i) {
                const auto number = static_cast<std::int16_t>(x.v[i]);
                std::memcpy(row + 2 * (place + i), &number, 2);
            }
        }
        // What sums start from; `total` is that of all the row's numbers that they will be given.
        static Sums start(std::int32_t) { return {}; }
        static Block load(const std::int8_t* p) { return {p}; }
        static void add(Sums& sums, Block w, const std::byte* row, int place) {
            std::int16_t x[4];
            std::memcpy(x, row + 2 * place, 8);
            for (int i = 0; i < 16; ++i) {
                for (int j = 0; j < 4; ++j) sums.v[i] += w.at[4 * i + j] * x[j];
            }
        }
        static F32 total(const Sums& sums) {
            F32 r;
            for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(sums.v[i]);
            return r;
        }
    };
    using KeyProducts = Int16Products;    // of integers in [-127 * 128, 127 * 128]
    using ValueProducts = Int16Products;  // of integers in [0, 127 * 256]
};

}  // namespace
}  // namespace pygpt
