// One instruction set's table for the trainer, from the bodies. Included by kernels/training/isa/ only.
#pragma once

#include "kernels/training/body/dropout.h"
#include "kernels/training/body/loss_and_step.h"
#include "kernels/training/body/panel_product.h"
#include "kernels/training/body/row_gradients.h"
#include "kernels/training/body/sequence_attention.h"
#include "kernels/training/body/sequence_attention_backward.h"
#include "kernels/training/training_kernels.h"

namespace pygpt {
namespace {

template <class S>
constexpr TrainingKernels fill_training() {
    TrainingKernels k{};
    k.vectors = S::kName;
    k.matmul_f32 = {pack_panels<S>, pack_panels<S>, multiply_panels<S>, 1, sizeof(float)};
    k.add_rows = add_rows<S>;
    k.layer_norm_backward = norm_backward<S, true>;
    k.rms_norm_backward = norm_backward<S, false>;
    k.activation = activation<S>;
    k.activation_backward = activation_backward<S>;
    k.gated_activation = gated_activation<S>;
    k.gated_activation_backward = gated_activation_backward<S>;
    k.scale_and_cap_backward = scale_and_cap_backward<S>;
    k.dropout = dropout<S>;
    k.cross_entropy = cross_entropy<S>;
    k.attention_f32 = {attention_forward<S, float>, attention_backward<S, float>};
    k.adamw = adamw<S>;
    k.adamw_bf16 = adamw_bf16<S>;
    k.sum_of_squares = sum_of_squares<S>;
    return k;
}

}  // namespace
}  // namespace pygpt
