// The arguments of the trainer's primitives, as the core takes them: checked, or an error that names them.
#pragma once

#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "kernels/training/training_kernels.h"
#include "training/attention_passes.h"

namespace pygpt {

// What multiplies factors of one precision.
struct Products {
    const MatmulFormat& matmul;
    const AttentionKernels& attention;
};

inline Products products(const Kernels& isa, const TrainingKernels& kernels, const std::string& precision) {
    if (precision == "float32") return {kernels.matmul_f32, kernels.attention_f32};
    if (precision != "bfloat16") {
        throw InvalidArgument("precision must be 'float32' or 'bfloat16', not '" + precision + "'");
    }
    if (kernels.matmul_bf16.multiply == nullptr) {
        throw InvalidArgument(std::string("precision='bfloat16' needs AVX512_BF16 or AMX with it, which isa '") +
                              isa.name + "' on this machine lacks; use 'float32'");
    }
    return {kernels.matmul_bf16, kernels.attention_bf16};
}

// A copy, since other threads may write to the caller's array once Python's lock is released.
inline std::vector<std::int32_t> checked_ids(const char* name, const py::array& a, int rows, int n_vocab,
                                             std::int32_t least) {
    const auto* from = elements<const std::int32_t>(name, a, {rows});
    std::vector<std::int32_t> ids(from, from + rows);
    for (const std::int32_t id : ids) {
        if (id < least || id >= n_vocab) {
            throw InvalidArgument(std::string(name) + " holds " + std::to_string(id) + ", outside the vocabulary of " +
                                  std::to_string(n_vocab));
        }
    }
    return ids;
}

// `drop`: a pygpt.training.primitives.Drop, or None.
inline DropoutMask dropout_mask(const py::object& drop) {
    if (drop.is_none()) return {};
    return {drop.attr("key").cast<std::uint64_t>(), drop.attr("threshold").cast<std::uint32_t>(),
            static_cast<float>(drop.attr("scale").cast<double>())};
}

// `heads`: a pygpt.training.primitives.Heads.
inline training::AttentionBatch attention_batch(const py::array& qkv, const py::object& heads) {
    training::AttentionBatch batch{};
    SequenceAttentionArgs& s = batch.sequence;
    int rows, width;
    s.qkv = elements<const float>("qkv", qkv, {&rows, &width});
    const auto number = [&](const char* name) { return heads.attr(name).cast<int>(); };
    const auto factor = [&](const char* name) { return static_cast<float>(heads.attr(name).cast<double>()); };
    batch.n_batch = number("n_batch");
    s.n_head = number("n_head");
    s.n_kv_head = number("n_kv_head");
    if (batch.n_batch < 1 || rows % batch.n_batch != 0) {
        throw InvalidArgument("n_batch=" + std::to_string(batch.n_batch) + " does not divide the " +
                              std::to_string(rows) + " rows of qkv");
    }
    if (s.n_kv_head < 1 || s.n_head < 1 || s.n_head % s.n_kv_head != 0) {
        throw InvalidArgument("n_head=" + std::to_string(s.n_head) +
                              " must be a multiple of n_kv_head=" + std::to_string(s.n_kv_head));
    }
    const std::int64_t all = std::int64_t{s.n_head} + 2 * std::int64_t{s.n_kv_head};
    if (width % all != 0 || width == 0) {
        throw InvalidArgument("qkv's rows of " + std::to_string(width) + " are not " + std::to_string(all) +
                              " heads of one size");
    }
    s.n_ctx = rows / batch.n_batch;
    s.head_dim = static_cast<int>(width / all);
    s.scale = factor("scale");
    s.mask = dropout_mask(heads.attr("drop"));
    s.rule.window = number("window");
    s.rule.cap = factor("cap");
    if (s.rule.window < 0 || !(s.rule.cap >= 0.0f)) throw InvalidArgument("window and cap must not be negative");
    const auto array = [&](const char* name) { return heads.attr(name).cast<std::optional<py::array>>(); };
    if (const auto slopes = array("slopes")) s.rule.slopes = elements<const float>("slopes", *slopes, {s.n_head});
    return batch;
}

}  // namespace pygpt
