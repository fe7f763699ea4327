// The memory of one step's activations.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "kernels/int8.h"
#include "model/config.h"
#include "model/ropes.h"
#include "ops/linear.h"
#include "ops/paged_attention.h"

namespace pygpt {

// Rows of float32 whose stride is not a multiple of a large power of two, so that the rows of a tile do not compete for
// the same sets of the cache.
struct Activations {
    float* data = nullptr;
    std::ptrdiff_t stride = 0;

    float* row(std::ptrdiff_t i) const { return data + i * stride; }
};

// Of each row's position, for one rotary embedding.
struct Angles {
    Activations cos, sin;
};

class Workspace {
public:
    // For steps of up to `rows` rows with weights of the given format.
    Workspace(const ModelConfig& config, const DistinctRopes& ropes, const LinearFormat& format, int rows, int threads)
        : angles(ropes.size()), rows_(rows) {
        lay_out(config, ropes, format.prepare != nullptr, threads, nullptr);
        buffer_ = Buffer(bytes_);
        lay_out(config, ropes, format.prepare != nullptr, threads, buffer_.data());
    }

    int rows() const { return rows_; }

    // x and normed have room for embeddings as well, where those are wider
    Activations x;         // the residual stream
    Activations normed;    // what a branch reads; then what the MLP computed
    Activations mixed;     // what attention computed: in the place of normed, unless the MLP reads that beside it
    Activations qkv;
    Activations attended;  // heads' outputs, side by side
    std::vector<Angles> angles;  // see DistinctRopes
    std::span<float> attention;  // see AttentionCall::scratch

    // Where the format of the weights reads its input as it is: the MLP's values before and, if it has a gate, after
    // the activation
    Activations up;
    Activations gated;

    // Where it prepares its input
    QuantizedRows input;  // of the product at hand: from normed, then from attended
    QuantizedRows inner;  // the MLP's values after the activation
    float* part;  // linear_scratch floats for each thread

private:
    // Gives every member its place after `base`, and bytes_ their size.
    void lay_out(const ModelConfig& c, const DistinctRopes& ropes, bool prepared, int threads, std::byte* base) {
        bytes_ = 0;
        const auto take = [&](std::ptrdiff_t bytes) {
            std::byte* at = base == nullptr ? nullptr : base + bytes_;
            bytes_ += static_cast<std::size_t>(round_up(bytes, 64));
            return at;
        };
        const auto floats = [&](int width) -> Activations {
            const std::ptrdiff_t stride = width == 0 ? 0 : round_up(width, 16) + 16;
            return {reinterpret_cast<float*>(take(stride * rows_ * 4)), stride};
        };
        const auto quantized = [&](int width) -> QuantizedRows {
            const std::ptrdiff_t rows = round_up(rows_, kInt8RowBlock);
            const std::ptrdiff_t ld = (padded_inputs(width) / 64 | 1) * 64, groups = int8_groups(width);
            QuantizedRows q;
            q.q = reinterpret_cast<std::int8_t*>(take(rows * ld));
            q.ld = ld;
            q.scales = reinterpret_cast<float*>(take(rows * groups * 4));
            q.sums = reinterpret_cast<std::int32_t*>(take(rows * groups * 4));
            q.ldg = rows;
            return q;
        };
        const int width = std::max(c.n_embd, c.embed_width());
        x = floats(width);
        normed = floats(width);
        mixed = c.branches == Branches::sequential ? normed : floats(c.n_embd);
        qkv = floats(c.qkv_width());
        attended = floats(c.q_width());
        for (std::size_t i = 0; i < ropes.size(); ++i) {
            const int half = ropes.distinct(i).dim() / 2;
            angles[i] = {floats(half), floats(half)};
        }
        const std::size_t of_attention = static_cast<std::size_t>(threads) * attention_scratch(c.head_dim) +
                                         split_floats(rows_, c.n_head, c.head_dim, c.n_ctx, threads);
        attention = {reinterpret_cast<float*>(take(static_cast<std::ptrdiff_t>(of_attention) * 4)), of_attention};
        up = floats(prepared ? 0 : c.up_width());
        gated = floats(c.gated_mlp && !prepared ? c.n_inner : 0);
        input = quantized(prepared ? std::max(width, c.q_width()) : 0);
        inner = quantized(prepared ? c.n_inner : 0);
        part =
            reinterpret_cast<float*>(take(prepared ? static_cast<std::ptrdiff_t>(linear_scratch()) * threads * 4 : 0));
    }

    int rows_;
    std::size_t bytes_ = 0;
    Buffer buffer_;
};

}  // namespace pygpt
