// One instruction set's table, from the bodies. Included by kernels/isa/ only.
#pragma once

#include "kernels/body/attention.h"
#include "kernels/body/linear.h"
#include "kernels/body/linear_int8.h"
#include "kernels/body/matmul.h"
#include "kernels/body/quantize.h"
#include "kernels/body/rows.h"
#include "kernels/body/training_attention.h"
#include "kernels/body/training_attention_backward.h"
#include "kernels/body/training_rows.h"
#include "kernels/body/training_step.h"

namespace pygpt {
namespace {

template <class S>
constexpr TrainingKernels fill_training() {
    TrainingKernels k{};
    k.layer_norm_backward = norm_backward<S, true>;
    k.rms_norm_backward = norm_backward<S, false>;
    k.activation = activation<S>;
    k.activation_backward = activation_backward<S>;
    k.gated_activation = gated_activation<S>;
    k.gated_activation_backward = gated_activation_backward<S>;
    k.cross_entropy = cross_entropy<S>;
    k.attention_forward = attention_forward<S>;
    k.attention_backward = attention_backward<S>;
    k.adamw = adamw<S>;
    k.sum_of_squares = sum_of_squares<S>;
    return k;
}

template <class S>
constexpr Kernels fill_table() {
    Kernels k{};
    k.name = S::kName;
    k.linear_f32 = linear<S, float>;
    k.linear_bf16 = linear<S, BFloat16>;
    k.matmul_f32 = {pack_panels<S>, pack_panels<S>, matmul<S>, 1, sizeof(float)};
    k.add_rows = add_rows<S>;
    k.linear_int8 = linear_int8<S>;
    k.quantize = quantize<S>;
    k.pack_int8 = pack_int8<S>;
    k.attention_f32 = attention<S, float>;
    k.attention_f16 = attention<S, Half>;
    k.attention_merge = attention_merge<S>;
    k.layer_norm = layer_norm<S>;
    k.rms_norm = rms_norm<S>;
    k.add = add_row<S>;
    k.activate = activate<S>;
    k.activate_gated = activate_gated<S>;
    k.rope = rope<S>;
    k.log_softmax = log_softmax<S>;
    k.exp = exp_row<S>;
    k.erf = erf_row<S>;
    k.to_f16 = to_f16<S>;
    k.training = fill_training<S>();
    return k;
}

}  // namespace
}  // namespace pygpt
