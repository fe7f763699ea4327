// The activation functions of an MLP.
#pragma once

#include <array>
#include <cstdint>

namespace pygpt {

// swiglu_clamped is a gate's: see gate_v in body/math.h.
enum class Activation : std::uint8_t { gelu, gelu_tanh, silu, relu, swiglu_clamped };
constexpr std::array<const char*, 5> enum_names(Activation) {
    return {"gelu", "gelu_tanh", "silu", "relu", "swiglu_clamped"};
}

}  // namespace pygpt
