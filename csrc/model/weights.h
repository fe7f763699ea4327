// A model's packed weights, and how canonical tensors (pygpt/config.py, tensor_shapes) find their place in them.
#pragma once

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
    NormWeights norm;
    PackedMatrix head;  // empty: tied

    const PackedMatrix& head_matrix() const { return head.n() == 0 ? embed : head; }
    DType dtype() const { return embed.dtype(); }
    std::size_t bytes() const;
};

class WeightsBuilder {
public:
    WeightsBuilder(const ModelConfig& config, DType dtype, const Kernels& kernels);
    // The slots hold pointers into the weights.
    WeightsBuilder(const WeightsBuilder&) = delete;
    WeightsBuilder& operator=(const WeightsBuilder&) = delete;

    // Packs one tensor; vectors are rows x 1. InvalidArgument: unknown name, wrong shape, given before, or values that
    // int8 cannot hold.
    void add(const std::string& name, const Plain& tensor, Team& team);

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
