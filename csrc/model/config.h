// The architecture of a model, mirrored from pygpt/config.py, which also checks it.
#pragma once

#include <array>
#include <optional>
#include <type_traits>
#include <vector>

#include "kernels/table.h"

namespace pygpt {

// The names of an enum's values, in their order, stand beside it: enum_names(T{}).
enum class Norm : std::uint8_t { layer_norm, rms_norm };
constexpr std::array<const char*, 2> enum_names(Norm) { return {"layer_norm", "rms_norm"}; }

// See ModelConfig in pygpt/config.py.
enum class NormPlacement : std::uint8_t { before_branch, after_branch, sandwich, after_sum };
constexpr std::array<const char*, 4> enum_names(NormPlacement) {
    return {"before_branch", "after_branch", "sandwich", "after_sum"};
}

enum class Branches : std::uint8_t { sequential, parallel, parallel_one_norm };
constexpr std::array<const char*, 3> enum_names(Branches) { return {"sequential", "parallel", "parallel_one_norm"}; }

enum class QkNorm : std::uint8_t { head, whole };
constexpr std::array<const char*, 2> enum_names(QkNorm) { return {"head", "whole"}; }

struct Rope {
    bool interleaved = false;
    std::vector<double> inv_freq;  // radians per position of each rotated pair
    double attention_factor = 1.0;  // cosines and sines are multiplied by it

    int dim() const { return static_cast<int>(inv_freq.size()) * 2; }
    bool operator==(const Rope&) const = default;
};

// See Experts in pygpt/config.py.
struct Experts {
    int n_expert = 0;
    int n_used = 0;
    int n_inner = 0;
    bool normalized = false;
    bool router_bias = false;
    std::optional<int> shared_inner;
    bool shared_gate = false;

    // Of a row: those that are chosen, and the shared one.
    int n_active() const { return n_used + (shared_inner ? 1 : 0); }
    // Channels of the router's product: the experts' scores, and the shared one's.
    int router_width() const { return n_expert + (shared_gate ? 1 : 0); }
};

// What may differ from layer to layer.
struct LayerConfig {
    float attn_scale = 0.0f;
    std::optional<Rope> rope;
    std::optional<int> window;
    std::optional<float> score_cap;
    std::vector<float> alibi_slopes;  // (n_head,) or empty
    bool sinks = false;
    std::optional<Experts> experts;
};

struct ModelConfig {
    int n_vocab = 0;
    int n_ctx = 0;
    int n_embd = 0;
    int n_head = 0;
    int n_kv_head = 0;
    int head_dim = 0;
    int n_inner = 0;
    Norm norm = Norm::layer_norm;
    float norm_eps = 0.0f;
    Activation activation = Activation::gelu;
    bool gated_mlp = false;
    bool qkv_bias = false;
    bool attn_out_bias = false;
    bool mlp_bias = false;
    bool learned_positions = false;
    std::vector<LayerConfig> layers;
    bool tied_head = false;
    NormPlacement norm_placement = NormPlacement::before_branch;
    Branches branches = Branches::sequential;
    std::optional<int> embed_dim;
    float embed_scale = 1.0f;
    bool embed_norm = false;
    std::optional<QkNorm> qk_norm;
    float branch_scale = 1.0f;
    bool head_bias = false;
    float logit_scale = 1.0f;
    std::optional<float> logit_cap;

    int n_layer() const { return static_cast<int>(layers.size()); }
    int q_width() const { return n_head * head_dim; }
    int kv_width() const { return n_kv_head * head_dim; }
    int qkv_width() const { return q_width() + 2 * kv_width(); }
    // Columns of the product that feeds the activation; a gated one alternates panels of gate and up.
    int up_width(int inner) const { return gated_mlp ? round_up(inner, 16) * 2 : inner; }
    int embed_width() const { return embed_dim.value_or(n_embd); }
    // Keys lie around their bias; where they are normed after it is added, they do not.
    bool keys_keep_bias() const { return qkv_bias && !qk_norm; }
    bool final_norm() const { return norm_placement != NormPlacement::after_sum; }
};

// visit(name, field) for each field, under its name in pygpt/config.py: the one list of them.
template <class Visit>
void visit_fields(Rope& c, Visit visit) {
    visit("interleaved", c.interleaved);
    visit("inv_freq", c.inv_freq);
    visit("attention_factor", c.attention_factor);
}

template <class Visit>
void visit_fields(Experts& c, Visit visit) {
    visit("n_expert", c.n_expert);
    visit("n_used", c.n_used);
    visit("n_inner", c.n_inner);
    visit("normalized", c.normalized);
    visit("router_bias", c.router_bias);
    visit("shared_inner", c.shared_inner);
    visit("shared_gate", c.shared_gate);
}

template <class Visit>
void visit_fields(LayerConfig& c, Visit visit) {
    visit("attn_scale", c.attn_scale);
    visit("rope", c.rope);
    visit("window", c.window);
    visit("score_cap", c.score_cap);
    visit("alibi_slopes", c.alibi_slopes);
    visit("sinks", c.sinks);
    visit("experts", c.experts);
}

template <class Visit>
void visit_fields(ModelConfig& c, Visit visit) {
    visit("n_vocab", c.n_vocab);
    visit("n_ctx", c.n_ctx);
    visit("n_embd", c.n_embd);
    visit("n_head", c.n_head);
    visit("n_kv_head", c.n_kv_head);
    visit("head_dim", c.head_dim);
    visit("n_inner", c.n_inner);
    visit("norm", c.norm);
    visit("norm_eps", c.norm_eps);
    visit("activation", c.activation);
    visit("gated_mlp", c.gated_mlp);
    visit("qkv_bias", c.qkv_bias);
    visit("attn_out_bias", c.attn_out_bias);
    visit("mlp_bias", c.mlp_bias);
    visit("learned_positions", c.learned_positions);
    visit("layers", c.layers);
    visit("tied_head", c.tied_head);
    visit("norm_placement", c.norm_placement);
    visit("branches", c.branches);
    visit("embed_dim", c.embed_dim);
    visit("embed_scale", c.embed_scale);
    visit("embed_norm", c.embed_norm);
    visit("qk_norm", c.qk_norm);
    visit("branch_scale", c.branch_scale);
    visit("head_bias", c.head_bias);
    visit("logit_scale", c.logit_scale);
    visit("logit_cap", c.logit_cap);
}

// InvalidArgument for sizes whose products would not fit the integers that count them. Memory is not asked for.
void check_sizes(const ModelConfig& config);

}  // namespace pygpt
