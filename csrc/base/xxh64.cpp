#include "base/xxh64.h"

#include <array>
#include <bit>
#include <cstring>

namespace pygpt {

namespace {

using Word = std::uint64_t;

constexpr Word kPrime1 = 0x9E3779B185EBCA87u, kPrime2 = 0xC2B2AE3D27D4EB4Fu, kPrime3 = 0x165667B19E3779F9u,
               kPrime4 = 0x85EBCA77C2B2AE63u, kPrime5 = 0x27D4EB2F165667C5u;

// A little-endian number, as all machines that pygpt runs on have them.
template <class T>
T read(const std::byte* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

Word round(Word sum, Word lane) { return std::rotl(sum + lane * kPrime2, 31) * kPrime1; }

}  // namespace

std::uint64_t xxh64(std::span<const std::byte> data, std::uint64_t seed) {
    const std::byte* at = data.data();
    std::size_t left = data.size();
    Word hash = seed + kPrime5;
    if (left >= 32) {
        std::array<Word, 4> sums{seed + kPrime1 + kPrime2, seed + kPrime2, seed, seed - kPrime1};
        for (; left >= 32; left -= 32) {
            for (Word& sum : sums) {
                sum = round(sum, read<Word>(at));
                at += sizeof(Word);
            }
        }
        hash = std::rotl(sums[0], 1) + std::rotl(sums[1], 7) + std::rotl(sums[2], 12) + std::rotl(sums[3], 18);
        for (const Word sum : sums) hash = (hash ^ round(0, sum)) * kPrime1 + kPrime4;
    }
    hash += data.size();
    for (; left >= 8; left -= 8, at += 8) hash = std::rotl(hash ^ round(0, read<Word>(at)), 27) * kPrime1 + kPrime4;
    if (left >= 4) {
        hash = std::rotl(hash ^ (read<std::uint32_t>(at) * kPrime1), 23) * kPrime2 + kPrime3;
        left -= 4;
        at += 4;
    }
    for (; left > 0; --left, ++at) hash = std::rotl(hash ^ (std::to_integer<Word>(*at) * kPrime5), 11) * kPrime1;
    hash = (hash ^ (hash >> 33)) * kPrime2;
    hash = (hash ^ (hash >> 29)) * kPrime3;
    return hash ^ (hash >> 32);
}

}  // namespace pygpt
