// Dequantisation of GGUF's block types (kernels/block_format.h). The layouts are those of ggml's ggml-common.h; loops
// over a constant number of bytes, which compilers turn into vectors.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "base/dtype.h"
#include "base/mxfp4.h"
#include "kernels/block_format.h"

namespace pygpt {
namespace {

using Byte = std::uint8_t;
using Value = std::int8_t;

template <class T>
inline T read_as(const Byte* at) {
    T value;
    std::memcpy(&value, at, sizeof(T));
    return value;
}
inline float half_at(const Byte* at) { return to_float(read_as<Half>(at)); }

// q[i] = the bits of from[i] above `shift` that `mask` keeps.
template <int n>
inline void take_bits(const Byte* from, int shift, int mask, Value* q) {
    for (int i = 0; i < n; ++i) q[i] = static_cast<Value>((from[i] >> shift) & mask);
}
// The same bits, put at `place`.
template <int n>
inline void add_bits(const Byte* from, int shift, int mask, int place, Value* q) {
    for (int i = 0; i < n; ++i) q[i] = static_cast<Value>(q[i] | (((from[i] >> shift) & mask) << place));
}
// The low halves of n bytes, then the high ones.
template <int n>
inline void take_nibbles(const Byte* from, Value* q) {
    take_bits<n>(from, 0, 15, q);
    take_bits<n>(from, 4, 15, q + n);
}
template <int n>
inline void subtract(int x, Value* q) {
    for (int i = 0; i < n; ++i) q[i] = static_cast<Value>(q[i] - x);
}
// Nibbles as numbers of a table.
inline void look_up(const Value* table, const Byte* from, Value* q) {
    for (int i = 0; i < 16; ++i) {
        q[i] = table[from[i] & 15];
        q[16 + i] = table[from[i] >> 4];
    }
}
// A fifth bit for each of 32 values: 8 of them at a time are spread over 8 bytes, the first of which is the lowest.
inline void add_fifth_bits(const Byte* from, Value* q) {
    for (int i = 0; i < 4; ++i) {
        const std::uint64_t each = (from[i] * 0x0101010101010101u) & 0x8040201008040201u;  // byte j: bit j, or 0
        const std::uint64_t fifth = ((each + 0x7f7f7f7f7f7f7f7fu) & 0x8080808080808080u) >> 3;
        std::uint64_t eight;
        std::memcpy(&eight, q + 8 * i, 8);
        eight |= fifth;
        std::memcpy(q + 8 * i, &eight, 8);
    }
}

// A type: what its blocks are, and how one is unpacked to numbers q and for each `kGroup` of them a scale and, if
// kOffset, an offset.
template <int values, int group, int bytes, bool offset = false>
struct Blocks {
    static constexpr int kValues = values, kGroup = group, kBytes = bytes;
    static constexpr bool kOffset = offset;
};

struct Q4_0 : Blocks<32, 32, 18> {
    static void unpack(const Byte* b, Value* q, float* scale, float*) {
        *scale = half_at(b);
        take_nibbles<16>(b + 2, q);
        subtract<32>(8, q);
    }
};

struct Q4_1 : Blocks<32, 32, 20, true> {
    static void unpack(const Byte* b, Value* q, float* scale, float* offset) {
        *scale = half_at(b);
        *offset = half_at(b + 2);
        take_nibbles<16>(b + 4, q);
    }
};

struct Q5_0 : Blocks<32, 32, 22> {
    static void unpack(const Byte* b, Value* q, float* scale, float*) {
        *scale = half_at(b);
        take_nibbles<16>(b + 6, q);
        add_fifth_bits(b + 2, q);
        subtract<32>(16, q);
    }
};

struct Q5_1 : Blocks<32, 32, 24, true> {
    static void unpack(const Byte* b, Value* q, float* scale, float* offset) {
        *scale = half_at(b);
        *offset = half_at(b + 2);
        take_nibbles<16>(b + 8, q);
        add_fifth_bits(b + 4, q);
    }
};

struct Q8_0 : Blocks<32, 32, 34> {
    static void unpack(const Byte* b, Value* q, float* scale, float*) {
        *scale = half_at(b);
        std::memcpy(q, b + 2, 32);
    }
};

struct Q2_K : Blocks<256, 16, 84, true> {
    static void unpack(const Byte* b, Value* q, float* scale, float* offset) {
        const float d = half_at(b + 80), least = half_at(b + 82);
        for (int g = 0; g < 16; ++g) {
            scale[g] = d * static_cast<float>(b[g] & 15);
            offset[g] = -(least * static_cast<float>(b[g] >> 4));
        }
        for (int r = 0; r < 8; ++r) take_bits<32>(b + 16 + r / 4 * 32, r % 4 * 2, 3, q + r * 32);
    }
};

struct Q3_K : Blocks<256, 16, 110> {
    static void unpack(const Byte* b, Value* q, float* scale, float*) {
        const Byte* const s = b + 96;  // 16 scales of 6 bits: the low 4 of them, then the high 2
        const float d = half_at(b + 108);
        for (int g = 0; g < 16; ++g) {
            const int low = (s[g % 8] >> (g / 8 * 4)) & 15, high = (s[8 + g % 4] >> (g / 4 * 2)) & 3;
            scale[g] = d * static_cast<float>((low | (high << 4)) - 32);
        }
        for (int r = 0; r < 8; ++r) {
            take_bits<32>(b + 32 + r / 4 * 32, r % 4 * 2, 3, q + r * 32);
            add_bits<32>(b, r, 1, 2, q + r * 32);
        }
        subtract<256>(4, q);
    }
};

// Eight scales and offsets of 6 bits in 12 bytes.
inline void unpack_scales(const Byte* b, const Byte* s, float* scale, float* offset) {
    const float d = half_at(b), least = half_at(b + 2);
    for (int g = 0; g < 4; ++g) {
        scale[g] = d * static_cast<float>(s[g] & 63);
        offset[g] = -(least * static_cast<float>(s[4 + g] & 63));
        scale[4 + g] = d * static_cast<float>((s[8 + g] & 15) | ((s[g] >> 6) << 4));
        offset[4 + g] = -(least * static_cast<float>((s[8 + g] >> 4) | ((s[4 + g] >> 6) << 4)));
    }
}

struct Q4_K : Blocks<256, 32, 144, true> {
    static void unpack(const Byte* b, Value* q, float* scale, float* offset) {
        unpack_scales(b, b + 4, scale, offset);
        for (int r = 0; r < 4; ++r) take_nibbles<32>(b + 16 + r * 32, q + r * 64);
    }
};

struct Q5_K : Blocks<256, 32, 176, true> {
    static void unpack(const Byte* b, Value* q, float* scale, float* offset) {
        unpack_scales(b, b + 4, scale, offset);
        for (int r = 0; r < 4; ++r) take_nibbles<32>(b + 48 + r * 32, q + r * 64);
        for (int r = 0; r < 8; ++r) add_bits<32>(b + 16, r, 1, 4, q + r * 32);
    }
};

struct Q6_K : Blocks<256, 16, 210> {
    static void unpack(const Byte* b, Value* q, float* scale, float*) {
        const float d = half_at(b + 208);
        for (int g = 0; g < 16; ++g) scale[g] = d * static_cast<float>(read_as<Value>(b + 192 + g));
        for (int half = 0; half < 2; ++half) {
            take_nibbles<64>(b + half * 64, q + half * 128);
            for (int r = 0; r < 4; ++r) add_bits<32>(b + 128 + half * 32, r * 2, 3, 4, q + half * 128 + r * 32);
        }
        subtract<256>(32, q);
    }
};

struct Q8_K : Blocks<256, 256, 292> {  // then come sums of q, which only products use
    static void unpack(const Byte* b, Value* q, float* scale, float*) {
        *scale = read_as<float>(b);
        std::memcpy(q, b + 4, 256);
    }
};

constexpr Value kNonLinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

struct IQ4_NL : Blocks<32, 32, 18> {
    static void unpack(const Byte* b, Value* q, float* scale, float*) {
        *scale = half_at(b);
        look_up(kNonLinear, b + 2, q);
    }
};

struct IQ4_XS : Blocks<256, 32, 136> {
    static void unpack(const Byte* b, Value* q, float* scale, float*) {
        const float d = half_at(b);
        const int high = read_as<std::uint16_t>(b + 2);
        for (int g = 0; g < 8; ++g) {
            const int low = (b[4 + g / 2] >> (g % 2 * 4)) & 15;
            scale[g] = d * static_cast<float>((low | (((high >> (2 * g)) & 3) << 4)) - 32);
            look_up(kNonLinear, b + 8 + g * 16, q + g * 32);
        }
    }
};

constexpr Value kFp4Twice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

struct MXFP4 : Blocks<32, 32, 17> {
    static void unpack(const Byte* b, Value* q, float* scale, float*) {
        *scale = bits_float(half_scale_bits(b[0]));
        look_up(kFp4Twice, b + 1, q);
    }
    static void as_mxfp4(const void* block, Byte* scale, Byte* pairs) {
        const Byte* b = static_cast<const Byte*>(block);
        *scale = b[0];
        for (int half = 0; half < 2; ++half) {
            for (int i = 0; i < 8; ++i) {
                const int first = b[1 + 2 * i] >> (4 * half) & 15, second = b[2 + 2 * i] >> (4 * half) & 15;
                pairs[8 * half + i] = static_cast<Byte>(first | second << 4);
            }
        }
    }
};

// Two neighbouring values to a byte.
struct MXFP4Pairs : Blocks<32, 32, 17> {
    static void unpack(const Byte* b, Value* q, float* scale, float*) {
        *scale = bits_float(half_scale_bits(b[0]));
        for (int i = 0; i < 32; ++i) q[i] = kFp4Twice[b[1 + i / 2] >> (i % 2 * 4) & 15];
    }
    static void as_mxfp4(const void* block, Byte* scale, Byte* pairs) {
        const Byte* b = static_cast<const Byte*>(block);
        *scale = b[0];
        std::memcpy(pairs, b + 1, 16);
    }
};

template <class B>
void dequantize_blocks(const void* blocks, std::ptrdiff_t n, float* out) {
    constexpr int kGroups = B::kValues / B::kGroup;
    const Byte* b = static_cast<const Byte*>(blocks);
    for (std::ptrdiff_t block = 0; block < n; ++block, b += B::kBytes) {
        alignas(64) Value q[B::kValues];
        float scale[kGroups], offset[kGroups];
        B::unpack(b, q, scale, offset);
        for (int g = 0; g < kGroups; ++g, out += B::kGroup) {
            for (int i = 0; i < B::kGroup; ++i) {
                out[i] = scale[g] * static_cast<float>(q[g * B::kGroup + i]);
                if constexpr (B::kOffset) out[i] = out[i] + offset[g];
            }
        }
    }
}

template <class B>
constexpr BlockFormat block_format(const char* name) {
    return {name, B::kValues, B::kBytes, dequantize_blocks<B>, nullptr};
}

template <class B>
constexpr BlockFormat mxfp4_blocks(const char* name) {
    return {name, B::kValues, B::kBytes, dequantize_blocks<B>, B::as_mxfp4};
}

constexpr std::array<BlockFormat, kBlockFormats> block_formats() {
    return {block_format<Q4_0>("Q4_0"),     block_format<Q4_1>("Q4_1"),   block_format<Q5_0>("Q5_0"),
            block_format<Q5_1>("Q5_1"),     block_format<Q8_0>("Q8_0"),   block_format<Q2_K>("Q2_K"),
            block_format<Q3_K>("Q3_K"),     block_format<Q4_K>("Q4_K"),   block_format<Q5_K>("Q5_K"),
            block_format<Q6_K>("Q6_K"),     block_format<Q8_K>("Q8_K"),   block_format<IQ4_NL>("IQ4_NL"),
            block_format<IQ4_XS>("IQ4_XS"), mxfp4_blocks<MXFP4>("MXFP4"), mxfp4_blocks<MXFP4Pairs>("MXFP4 pairs")};
}

}  // namespace
}  // namespace pygpt
