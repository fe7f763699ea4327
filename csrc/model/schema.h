// The one inventory of a model's tensors: what a checkpoint holds, and where the engine keeps it.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "base/lanes.h"
#include "model/balance.h"
#include "model/config.h"
#include "packing/matrix.h"

namespace pygpt {

// What a matrix is kept in: the format that was chosen for the weights; that, or the MXFP4 blocks that a file holds; or
// float32 whatever was chosen.
enum class Storage : std::uint8_t { chosen, chosen_or_blocks, precise };

// A canonical tensor (rows, cols), or a vector (rows,), and its place: channels of a whole that it may share with
// others. Engines and their files know the whole under its own name.
struct TensorSpec {
    std::string name;
    int rows;
    int cols;
    bool is_vector;
    std::string whole;
    int channels;  // rows of the whole
    Channels to;
    Storage storage = Storage::chosen;  // of a matrix
    // What feeds a matrix, where that may be balanced with it: channels of another one, or the norm of this name.
    std::optional<Source> source = std::nullopt;
    std::string norm{};
};

// visit_tensors(config, weights, visit) calls visit(TensorSpec, where) for every tensor, those of one whole one after
// the other. `where` is a PackedMatrix for the weights of products, and a std::vector<float> for all else.
template <class Visit>
class TensorVisitor {
public:
    TensorVisitor(const ModelConfig& config, Visit visit) : c_(config), visit_(visit) {}

    template <class SomeWeights>
    void model(SomeWeights& w) {
        const int width = c_.embed_width();
        visit_({"embed.weight", c_.n_vocab, width, false, "embed.weight", c_.n_vocab, {}}, w.embed);
        if (c_.embed_dim) whole({"embed_proj", c_.n_embd, width, false}, w.embed_proj);
        if (c_.learned_positions) {
            visit_({"pos.weight", c_.n_ctx, c_.n_embd, false, "pos.weight", c_.n_ctx, {}}, w.positions);
        }
        if (c_.embed_norm) norm("embed_norm", w.embed_norm);
        std::size_t layer = 0;
        for (auto& b : w.blocks) {
            block("blocks." + std::to_string(layer), c_.layers[layer], b);
            ++layer;
        }
        if (c_.final_norm()) norm("norm", w.norm);
        if (c_.embed_dim) whole({"head_proj", width, c_.n_embd, false}, w.head_proj);
        if (!c_.tied_head) {
            visit_({"head.weight", c_.n_vocab, width, false, "head.weight", c_.n_vocab, {}}, w.head.weight);
        }
        if (c_.head_bias) vector("head.bias", c_.n_vocab, round_up(c_.n_vocab, 16), w.head.bias);
    }

private:
    template <class SomeBlock>
    void block(const std::string& name, const LayerConfig& layer, SomeBlock& b) {
        const int q = c_.q_width(), kv = c_.kv_width(), embd = c_.n_embd;
        const bool sandwich = c_.norm_placement == NormPlacement::sandwich;
        norm(name + ".attn_norm", b.attn_norm);
        if (sandwich) norm(name + ".attn_post_norm", b.attn_post_norm);
        // What a norm gives may be of other sizes where all that read it are matrices of the chosen format. Not what
        // LayerNorm does: its outputs, of which a part is constant, are not of one size (docs/accuracy.md).
        const bool before =
            (c_.norm_placement == NormPlacement::before_branch || sandwich) && c_.norm == Norm::rms_norm;
        const bool shared = c_.branches == Branches::parallel_one_norm;
        const std::string attn_norm = before && !(shared && layer.experts) ? name + ".attn_norm" : "";
        const std::string mlp_norm = shared ? attn_norm : before ? name + ".mlp_norm" : "";
        const Whole qkv{name + ".attn.qkv", c_.qkv_width(), embd, c_.qkv_bias, Storage::chosen, {}, attn_norm};
        part(name + ".attn.q", q, qkv, {0, 16}, b.qkv);
        part(name + ".attn.k", kv, qkv, {q, 16}, b.qkv);
        part(name + ".attn.v", kv, qkv, {q + kv, 16}, b.qkv);
        if (c_.qk_norm) {
            const bool by_head = c_.qk_norm == QkNorm::head;
            vector(name + ".attn.q_norm.weight", by_head ? c_.head_dim : q, b.q_norm);
            vector(name + ".attn.k_norm.weight", by_head ? c_.head_dim : kv, b.k_norm);
        }
        if (layer.sinks) vector(name + ".attn.sinks", c_.n_head, b.sinks);
        // Queries' heads take the values of their group's head.
        const Source values{qkv.name + ".weight", {q + kv, 16}, kv, c_.head_dim, c_.n_head / c_.n_kv_head};
        whole({name + ".attn.out", embd, q, c_.attn_out_bias, Storage::chosen, values}, b.attn_out);
        if (c_.branches != Branches::parallel_one_norm) norm(name + ".mlp_norm", b.mlp_norm);
        if (sandwich) norm(name + ".mlp_post_norm", b.mlp_post_norm);
        if (layer.experts) {
            experts(name + ".mlp", *layer.experts, b);
        } else {
            mlp(name + ".mlp", c_.n_inner, b.mlp, Storage::chosen, mlp_norm);
        }
    }

    // A router's scores decide which experts run, so a rounding error of theirs could change everything: its weights,
    // a small part of all, stay as precise as they come.
    template <class SomeBlock>
    void experts(const std::string& name, const Experts& e, SomeBlock& b) {
        const int embd = c_.n_embd;
        const Whole router{name + ".router", e.router_width(), embd, e.router_bias, Storage::precise};
        part(router.name, e.n_expert, router, {}, b.router);
        if (e.shared_gate) {
            visit_({name + ".shared_gate.weight",
                    1,
                    embd,
                    false,
                    router.name + ".weight",
                    router.channels,
                    {e.n_expert, 16},
                    Storage::precise},
                   b.router.weight);
        }
        int i = 0;
        for (auto& expert : b.experts) {
            mlp(name + ".experts." + std::to_string(i++), e.n_inner, expert, Storage::chosen_or_blocks);
        }
        if (e.shared_inner) mlp(name + ".shared", *e.shared_inner, b.mlp, Storage::chosen);
    }

    template <class SomeMlp>
    void mlp(const std::string& name, int inner, SomeMlp& m, Storage storage, const std::string& norm = "") {
        const Whole up{name + ".up", c_.up_width(inner), c_.n_embd, c_.mlp_bias, storage, {}, norm};
        if (c_.gated_mlp) {  // panels of 16 gate channels and of 16 up channels alternate
            part(name + ".gate", inner, up, {0, 32}, m.up);
            part(name + ".up", inner, up, {16, 32}, m.up);
        } else {
            whole(up, m.up);
        }
        // An inner value is proportional to its channel of `up` where that is what a gate multiplies, or relu cuts.
        const bool linear =
            c_.gated_mlp ? c_.activation != Activation::swiglu_clamped : c_.activation == Activation::relu;
        const Channels channels = c_.gated_mlp ? Channels{16, 32} : Channels{};
        std::optional<Source> source;
        if (linear) source = Source{up.name + ".weight", channels, inner, inner, 1};
        whole({name + ".down", c_.n_embd, inner, c_.mlp_bias, storage, std::move(source)}, m.down);
    }

    // A linear module as the engine holds it.
    struct Whole {
        std::string name;
        int channels;
        int inputs;
        bool bias;
        Storage storage = Storage::chosen;
        std::optional<Source> source = std::nullopt;
        std::string norm{};
    };

    template <class SomeLinear>
    void part(const std::string& name, int rows, const Whole& in, Channels to, SomeLinear& l) {
        visit_({name + ".weight", rows, in.inputs, false, in.name + ".weight", in.channels, to, in.storage, in.source,
                in.norm},
               l.weight);
        if (in.bias) visit_({name + ".bias", rows, 1, true, in.name + ".bias", round_up(in.channels, 16), to}, l.bias);
    }

    template <class SomeLinear>
    void whole(const Whole& it, SomeLinear& l) {
        part(it.name, it.channels, it, {}, l);
    }

    template <class SomeNorm>
    void norm(const std::string& name, SomeNorm& n) {
        vector(name + ".weight", c_.n_embd, n.weight);
        if (c_.norm == Norm::layer_norm) vector(name + ".bias", c_.n_embd, n.bias);
    }

    // Numbers that are no matrix, in room for `channels` of them.
    template <class SomeVector>
    void vector(const std::string& name, int n, int channels, SomeVector& v) {
        visit_({name, n, 1, true, name, channels, {}}, v);
    }

    template <class SomeVector>
    void vector(const std::string& name, int n, SomeVector& v) {
        vector(name, n, n, v);
    }

    const ModelConfig& c_;
    Visit visit_;
};

template <class SomeWeights, class Visit>
void visit_tensors(const ModelConfig& config, SomeWeights& weights, Visit visit) {
    TensorVisitor<Visit>(config, visit).model(weights);
}

// visit(whole, where) for every whole.
template <class SomeWeights, class Visit>
void visit_wholes(const ModelConfig& config, SomeWeights& weights, Visit visit) {
    visit_tensors(config, weights, [&](const TensorSpec& t, auto& where) {
        if (t.to.first == 0) visit(t, where);
    });
}

}  // namespace pygpt
