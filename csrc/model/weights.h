// A model's packed weights, and how canonical tensors (pygpt/config.py, tensor_shapes) find their place in them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/config.h"
#include "packing/matrix.h"

namespace pygpt {

class Team;

struct Linear {
    PackedMatrix weight;
    std::vector<float> bias;  // (n rounded up to 16,), or empty
};

struct NormWeights {
    std::vector<float> weight;
    std::vector<float> bias;  // empty for RMSNorm
};

struct Block {
    NormWeights attn_norm;
    Linear qkv;  // the channels of q, k and v, one after the other
    Linear attn_out;
    NormWeights mlp_norm;
    Linear up;  // gated: panels of 16 gate channels and of 16 up channels alternate
    Linear down;
};

struct Weights {
    PackedMatrix embed;  // (n_vocab, n_embd); also the head's where it is tied
    std::vector<float> positions;  // (n_ctx, n_embd) or empty
    std::vector<Block> blocks;
    NormWeights norm;  // empty for post-norm blocks
    PackedMatrix head;  // empty: tied

    const PackedMatrix& head_matrix() const { return head.n() == 0 ? embed : head; }
    DType dtype() const { return embed.dtype(); }
    std::size_t bytes() const;
};

// Calls f(name, part) with every matrix (PackedMatrix) and every vector (std::vector<float>) that the weights have.
template <class SomeWeights, class F>
void for_each_part(SomeWeights& w, const F& f) {
    const auto vector = [&](const std::string& name, auto& v) {
        if (!v.empty()) f(name, v);
    };
    const auto norm = [&](const std::string& name, auto& n) {
        vector(name + ".weight", n.weight);
        vector(name + ".bias", n.bias);
    };
    const auto linear = [&](const std::string& name, auto& l) {
        f(name + ".weight", l.weight);
        vector(name + ".bias", l.bias);
    };
    f("embed.weight", w.embed);
    vector("pos.weight", w.positions);
    int i = 0;
    for (auto& block : w.blocks) {
        const std::string name = "blocks." + std::to_string(i++);
        norm(name + ".attn_norm", block.attn_norm);
        linear(name + ".attn.qkv", block.qkv);
        linear(name + ".attn.out", block.attn_out);
        norm(name + ".mlp_norm", block.mlp_norm);
        linear(name + ".mlp.up", block.up);
        linear(name + ".mlp.down", block.down);
    }
    norm("norm", w.norm);
    if (w.head.n() > 0) f("head.weight", w.head);
}

// One plain array of the weights as the engine holds them; an int8 matrix has two of them. Files hold these.
struct PackedTensor {
    std::string name;
    DType dtype;
    std::vector<std::size_t> shape;
    const void* data;  // null: a matrix that was not written yet
};
std::vector<PackedTensor> packed_tensors(const Weights& weights);

class WeightsBuilder {
public:
    WeightsBuilder(const ModelConfig& config, DType dtype, const Kernels& kernels);
    // The slots hold pointers into the weights.
    WeightsBuilder(const WeightsBuilder&) = delete;
    WeightsBuilder& operator=(const WeightsBuilder&) = delete;

    // Packs one tensor; vectors are rows x 1. InvalidArgument: unknown name, wrong shape, given before, or values that
    // int8 cannot hold. `consumed` as in PackedMatrix::write.
    void add(const std::string& name, const Plain& tensor, Team& team, const std::function<void()>& consumed = {});

    // Takes all packed_tensors() as they are: matrices in place, kept alive by `owner`, floats as a copy. `data` gives
    // each one's values by name. InvalidArgument: a scale that is negative or not finite, or a tensor was added before.
    void adopt(const std::unordered_map<std::string, const void*>& data, const std::shared_ptr<const void>& owner);

    // What the parts look like; empty so far.
    const Weights& weights() const { return weights_; }

    // InvalidArgument names the tensors that are missing.
    Weights finish();

private:
    struct Slot {
        int rows = 0;
        int cols = 0;
        PackedMatrix* matrix = nullptr;  // either a matrix, at these channels,
        Channels channels;
        float* vector = nullptr;  // or plain floats
        bool filled = false;
    };

    void add_norm(const std::string& name, NormWeights& norm);
    void add_matrix(const std::string& name, PackedMatrix& matrix, int rows, Channels channels);
    void add_vector(const std::string& name, float* data, int rows, int cols);
    void add_block(const std::string& name, Block& block);

    ModelConfig config_;
    DType dtype_;
    const Kernels& kernels_;
    Weights weights_;
    std::unordered_map<std::string, Slot> slots_;
};

}  // namespace pygpt
