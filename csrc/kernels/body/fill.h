// One instruction set's table, from the bodies. Included by kernels/isa/ only.
#pragma once

#include "kernels/body/block_formats.h"
#include "kernels/body/cache_float.h"
#include "kernels/body/cache_int8.h"
#include "kernels/body/int8_format.h"
#include "kernels/body/linear_float.h"
#include "kernels/body/mxfp4_format.h"
#include "kernels/body/rows.h"
#include "kernels/body/softmax.h"

namespace pygpt {
namespace {

template <class S>
constexpr Kernels fill_table() {
    Kernels k{};
    k.name = k.vectors = S::kName;
    k.formats = {float_format<S, float>("float32", DType::f32), float_format<S, BFloat16>("bfloat16", DType::bf16),
                 int8_format<S>()};
    k.mxfp4 = mxfp4_format<S>();
    k.blocks = block_formats();
    k.caches = {float_cache<S, float>("float32", DType::f32), float_cache<S, Half>("float16", DType::f16),
                int8_cache<S>()};
    k.attention_merge = attention_merge<S>;
    k.layer_norm = layer_norm<S>;
    k.rms_norm = rms_norm<S>;
    k.add = add_row<S>;
    k.scale_and_cap = scale_and_cap<S>;
    k.activate = activate<S>;
    k.activate_gated = activate_gated<S>;
    k.rope = rope<S>;
    k.softmax_blocks = softmax_blocks<S>;
    k.softmax_sum = softmax_sum<S>;
    k.log_softmax = log_softmax<S>;
    k.exp = exp_row<S>;
    k.erf = erf_row<S>;
    k.to_f16 = to_f16<S>;
    return k;
}

}  // namespace
}  // namespace pygpt
