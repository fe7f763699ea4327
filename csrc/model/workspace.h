// The memory of one step's activations.
#pragma once

#include <cstddef>

#include "base/buffer.h"
#include "kernels/attention.h"
#include "model/config.h"

namespace pygpt {

// Rows of float32 whose stride is not a multiple of a large power of two, so that the rows of a tile do not compete for
// the same sets of the cache.
struct Activations {
    float* data = nullptr;
    std::ptrdiff_t stride = 0;

    float* row(std::ptrdiff_t i) const { return data + i * stride; }
};

class Workspace {
public:
    Workspace(const ModelConfig& config, int rows, int threads)
        : rows_(rows), buffer_(size(config, rows, threads) * sizeof(float)) {
        float* next = buffer_.as<float>();
        const auto take = [&](int width) {
            const Activations a{next, stride(width)};
            next += a.stride * rows;
            return a;
        };
        x = take(config.n_embd);
        normed = take(config.n_embd);
        qkv = take(config.qkv_width());
        attended = take(config.q_width());
        up = take(config.up_width());
        gated = take(config.gated_mlp ? config.n_inner : 0);
        cos = take(static_cast<int>(config.rope_inv_freq.size()));
        sin = take(static_cast<int>(config.rope_inv_freq.size()));
        attention = next;
    }

    int rows() const { return rows_; }

    Activations x;         // the residual stream
    Activations normed;    // after a norm; then what the branch that read it adds to x
    Activations qkv;
    Activations attended;  // heads' outputs, side by side
    Activations up;
    Activations gated;
    Activations cos, sin;  // of each row's position
    float* attention;      // attention_scratch floats for each thread

private:
    static std::ptrdiff_t stride(int width) { return width == 0 ? 0 : (width + 15) / 16 * 16 + 16; }

    static std::size_t size(const ModelConfig& c, int rows, int threads) {
        const std::ptrdiff_t row = 2 * stride(c.n_embd) + stride(c.qkv_width()) + stride(c.q_width()) +
                                   stride(c.up_width()) + stride(c.gated_mlp ? c.n_inner : 0) +
                                   2 * stride(static_cast<int>(c.rope_inv_freq.size()));
        return static_cast<std::size_t>(row) * static_cast<std::size_t>(rows) +
               static_cast<std::size_t>(threads) * attention_scratch(c.head_dim);
    }

    int rows_;
    Buffer buffer_;
};

}  // namespace pygpt
