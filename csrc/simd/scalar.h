// The 16-lane vector on any machine: an array. It defines what the other instruction sets must reproduce bit by bit.
//
// Every simd/ header gives one struct with the same members. All have internal linkage: a translation unit that is
// compiled for one instruction set must not offer its code to the others.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace pygpt {
namespace {

struct Scalar {
    static constexpr const char* kName = "scalar";
    static constexpr int kRegisters = 1;  // how many 16-lane vectors it pays to keep live

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
    // The first n lanes (0 <= n <= 16), the others zero; reads nothing beyond them.
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
        for (int i = 0; i < n; ++i) p[i] = a.v[i];
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
};

}  // namespace
}  // namespace pygpt
