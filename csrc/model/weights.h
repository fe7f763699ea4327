// A model's packed weights, filled tensor by tensor or adopted as they are.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "model/config.h"
#include "model/schema.h"
#include "ops/mlp.h"
#include "packing/matrix.h"

namespace pygpt {

class Team;

struct NormWeights {
    std::vector<float> weight;
    std::vector<float> bias;  // empty for RMSNorm
};

// What the configuration does not ask for is empty.
struct Block {
    NormWeights attn_norm, attn_post_norm;
    Linear qkv;  // the channels of q, k and v, one after the other
    std::vector<float> q_norm, k_norm;  // (head_dim,), or the width of all queries and of all keys, or empty
    std::vector<float> sinks;  // (n_head,), or empty
    Linear attn_out;
    NormWeights mlp_norm, mlp_post_norm;
    Mlp mlp;  // what every token runs: the dense one, or the shared expert
    Linear router;  // the channels of the experts, then that of the shared one
    std::vector<Mlp> experts;
};

struct Weights {
    // Empty, with room for all blocks and experts.
    explicit Weights(const ModelConfig& config);

    PackedMatrix embed;  // (n_vocab, embed_width); also the head's where it is tied
    Linear embed_proj;  // from embed_width to n_embd; empty where they are the same, as head_proj
    std::vector<float> positions;  // (n_ctx, n_embd) or empty
    NormWeights embed_norm;
    std::vector<Block> blocks;
    NormWeights norm;  // empty for post-norm blocks
    Linear head_proj;  // from n_embd to embed_width
    Linear head;  // its weight is empty where it is tied

    const PackedMatrix& head_matrix() const { return head.weight.n() == 0 ? embed : head.weight; }
    const LinearFormat& format() const { return embed.format(); }
    // Which forms of input the experts' products read: floats, and what a format prepares.
    struct Inputs {
        bool plain = false, prepared = false;
    };
    Inputs expert_inputs() const;
    std::size_t bytes(const ModelConfig& config) const;
};

// The tensors that a checkpoint of this configuration holds.
std::vector<TensorSpec> list_tensors(const ModelConfig& config);

// One plain array of the weights as the engine holds them; a matrix with scales has two of them. Files hold these.
struct PackedTensor {
    std::string name;
    DType dtype;
    std::vector<std::size_t> shape;
    const void* data;  // null: a matrix that was not written yet
};
std::vector<PackedTensor> packed_tensors(const ModelConfig& config, const Weights& weights);

class WeightsBuilder {
public:
    // `format`: of the matrices that may have any.
    WeightsBuilder(const ModelConfig& config, const Kernels& kernels, const LinearFormat& format);
    // The slots hold pointers into the weights.
    WeightsBuilder(const WeightsBuilder&) = delete;
    WeightsBuilder& operator=(const WeightsBuilder&) = delete;

    // Packs one tensor; vectors are rows x 1. InvalidArgument: unknown name, wrong shape, given before, or values that
    // the format cannot hold. A matrix of a format with scales is balanced with its source (model/balance.h) if that is
    // complete by then: so add what feeds others before them. Of those that read a norm, the first decides about it.
    void add(const std::string& name, const Plain& tensor, Team& team);

    // Takes all packed_tensors() as they are: matrices in place, kept alive by `owner`, floats as a copy. `data` gives
    // each one's values by name. InvalidArgument: a scale that is negative or not finite, or a tensor was added before.
    void adopt(const std::unordered_map<std::string, const void*>& data, const std::shared_ptr<const void>& owner);

    // The matrices of these names are in MXFP4: before packed() and adopt(). Names that cannot be are passed over.
    // InvalidArgument: rows that are not whole blocks, or a tensor was added before.
    void keep_blocks(const std::unordered_set<std::string>& wholes);

    // What adopt() wants.
    std::vector<PackedTensor> packed() const { return packed_tensors(config_, weights_); }

    // InvalidArgument names the tensors that are missing.
    Weights finish();

private:
    struct Slot {
        TensorSpec spec;
        PackedMatrix* matrix = nullptr;  // either a matrix
        std::vector<float>* vector = nullptr;
        bool filled = false;
    };

    // A matrix, and how many of its tensors are missing.
    struct Whole {
        PackedMatrix* matrix = nullptr;
        int missing = 0;
    };
    // Factors by which the channels of a source were multiplied.
    struct Balanced {
        Source source;
        std::vector<float> factors;
    };

    void choose_format(Slot& slot, const Plain& tensor) const;
    // Balanced with the norm or the matrix that the tensor reads. False where its format cannot hold a value.
    [[nodiscard]] bool write(const Slot& slot, Plain tensor, Team& team);

    ModelConfig config_;
    const Kernels& kernels_;
    Weights weights_;
    MatrixMemory memory_;
    std::unordered_map<std::string, Slot> slots_;
    std::unordered_map<std::string, Whole> wholes_;
    std::vector<Balanced> balanced_;
    std::unordered_map<std::string, std::vector<float>> norms_;  // the factors of what they give
};

}  // namespace pygpt
