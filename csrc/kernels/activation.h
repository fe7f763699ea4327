// The activation functions of an MLP.
#pragma once

#include <array>
#include <cstdint>

namespace pygpt {

enum class Activation : std::uint8_t { gelu, gelu_tanh, silu, relu };
constexpr std::array<const char*, 4> enum_names(Activation) { return {"gelu", "gelu_tanh", "silu", "relu"}; }

}  // namespace pygpt
