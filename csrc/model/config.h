// The architecture of a model, mirrored from pygpt/config.py, which also checks it.
#pragma once

#include <vector>

#include "kernels/table.h"

namespace pygpt {

enum class Norm : std::uint8_t { layer_norm, rms_norm };

struct ModelConfig {
    int n_vocab = 0;
    int n_ctx = 0;
    int n_layer = 0;
    int n_embd = 0;
    int n_head = 0;
    int n_kv_head = 0;
    int head_dim = 0;
    int n_inner = 0;
    Norm norm = Norm::layer_norm;
    float norm_eps = 0.0f;
    Activation activation = Activation::gelu;
    bool post_norm = false;  // norm after each half's sum; no final norm
    bool gated_mlp = false;
    bool qkv_bias = false;
    bool attn_out_bias = false;
    bool mlp_bias = false;
    bool learned_positions = false;
    bool tied_head = false;
    bool rope_interleaved = false;
    std::vector<double> rope_inv_freq;      // radians per position of each rotated pair; empty: no rotary embedding
    std::vector<double> layer_attn_scale;   // (n_layer,)

    int q_width() const { return n_head * head_dim; }
    int kv_width() const { return n_kv_head * head_dim; }
    int qkv_width() const { return q_width() + 2 * kv_width(); }
    // Columns of the product that feeds the activation; a gated one alternates panels of gate and up.
    int up_width() const { return gated_mlp ? round_up(n_inner, 16) * 2 : n_inner; }
};

// InvalidArgument for sizes whose products would not fit the integers that count them. Memory is not asked for.
void check_sizes(const ModelConfig& config);

}  // namespace pygpt
