// The activation functions of an MLP.
#pragma once

#include <cstdint>

namespace pygpt {

enum class Activation : std::uint8_t { gelu, gelu_tanh, silu, relu };

}  // namespace pygpt
