// XXH64, a hash as quick as memory: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace pygpt {

// Tells whether bytes changed by accident; whoever wants two texts of equal hash finds them.
std::uint64_t xxh64(std::span<const std::byte> data, std::uint64_t seed);

}  // namespace pygpt
