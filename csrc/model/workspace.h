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
#include "model/weights.h"
#include "ops/experts.h"
#include "ops/head.h"
#include "ops/paged_attention.h"

namespace pygpt {

// Of each row's position, for one rotary embedding.
struct Angles {
    Activations cos, sin;
};

class Workspace {
public:
    // For steps of up to `rows` rows.
    Workspace(const ModelConfig& config, const DistinctRopes& ropes, const Weights& weights, int rows, int threads)
        : angles(ropes.size()), rows_(rows) {
        lay_out(config, ropes, weights, threads, nullptr);
        buffer_ = Buffer(bytes_);
        lay_out(config, ropes, weights, threads, buffer_.data());
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
    std::vector<AttentionPlan> plans;  // of the step at hand: of each class of layers, then of the last layer

    // Where the format of the weights reads its input as it is: the values of the MLP that every token runs before and,
    // if it has a gate, after the activation
    Activations up;
    Activations gated;

    float* part;  // linear_scratch floats for each thread: results of which nobody needs all
    BlockSums scores;  // of the head's logits

    // Where it prepares its input
    QuantizedRows input;  // of the product at hand: from normed, then from attended
    QuantizedRows inner;  // that MLP's values after the activation

    ExpertRows experts;  // for the widest layer

private:
    // Gives every member its place after `base`, and bytes_ their size.
    void lay_out(const ModelConfig& c, const DistinctRopes& ropes, const Weights& w, int threads, std::byte* base) {
        base_ = base;
        bytes_ = 0;
        const bool prepared = w.format().prepare != nullptr;
        const int stream = std::max(c.n_embd, c.embed_width());
        x = floats(stream);
        normed = floats(stream);
        mixed = c.branches == Branches::sequential ? normed : floats(c.n_embd);
        qkv = floats(c.qkv_width());
        attended = floats(c.q_width());
        for (std::size_t i = 0; i < ropes.size(); ++i) {
            const int half = ropes.distinct(i).dim() / 2;
            angles[i] = {floats(half), floats(half)};
        }
        attention = values<float>(static_cast<std::size_t>(threads) * attention_scratch(c.head_dim) +
                                  split_floats(rows_, c.n_head, c.head_dim, c.n_ctx, threads));
        int width = 0;  // of the MLP that every token runs
        for (const LayerConfig& layer : c.layers) {
            width = std::max(width, layer.experts ? layer.experts->shared_inner.value_or(0) : c.n_inner);
        }
        up = floats(prepared ? 0 : c.up_width(width));
        gated = floats(c.gated_mlp && !prepared ? width : 0);
        input = quantized(prepared ? std::max(stream, c.q_width()) : 0, rows_);
        inner = quantized(prepared ? width : 0, rows_);
        part = values<float>(linear_scratch() * static_cast<std::size_t>(threads)).data();
        scores = {floats(count_softmax_blocks(c.n_vocab)), floats(count_softmax_blocks(c.n_vocab))};
        lay_out_experts(c, w);
    }

    void lay_out_experts(const ModelConfig& c, const Weights& w) {
        int scores = 0, used = 0, active = 0, width = 0, n_expert = 0;
        for (const LayerConfig& layer : c.layers) {
            if (!layer.experts) continue;
            const Experts& e = *layer.experts;
            scores = std::max(scores, e.router_width());
            used = std::max(used, e.n_used);
            active = std::max(active, e.n_active());
            width = std::max(width, e.n_inner);
            n_expert = std::max(n_expert, e.n_expert);
        }
        if (n_expert == 0) return;
        const auto [plain, prepared] = w.expert_inputs();
        const int gathered = rows_ * used;
        experts.scores = floats(scores);
        experts.exps = floats(scores);
        experts.choices = values<Choice>(static_cast<std::size_t>(rows_ * active));
        experts.places = values<int>(static_cast<std::size_t>(rows_ * active));
        experts.begin = values<int>(static_cast<std::size_t>(n_expert) + 1);
        experts.x = floats(plain ? c.n_embd : 0, gathered);
        experts.quantized = quantized(prepared ? c.n_embd : 0, gathered + kInt8RowBlock);
        experts.up = floats(plain ? c.up_width(width) : 0, gathered);
        experts.inner = !plain || c.gated_mlp ? floats(plain ? width : 0, gathered) : experts.up;
        experts.prepared = quantized(prepared ? width : 0, gathered + kInt8RowBlock);
        experts.y = floats(c.n_embd, rows_ * active);
    }

    std::byte* take(std::ptrdiff_t bytes) {
        std::byte* at = base_ == nullptr ? nullptr : base_ + bytes_;
        bytes_ += static_cast<std::size_t>(round_up(bytes, 64));
        return at;
    }

    template <class T>
    std::span<T> values(std::size_t n) {
        return {reinterpret_cast<T*>(take(static_cast<std::ptrdiff_t>(n * sizeof(T)))), n};
    }

    Activations floats(int width, int rows) {
        const std::ptrdiff_t stride = width == 0 ? 0 : round_up(width, 16) + 16;
        return {reinterpret_cast<float*>(take(stride * rows * 4)), stride};
    }
    Activations floats(int width) { return floats(width, rows_); }

    QuantizedRows quantized(int width, int n) {
        const std::ptrdiff_t rows = round_up(n, kInt8RowBlock);
        const std::ptrdiff_t ld = (padded_inputs(width) / 64 | 1) * 64, groups = int8_groups(width);
        QuantizedRows q;
        q.q = reinterpret_cast<std::int8_t*>(take(rows * ld));
        q.ld = ld;
        q.scales = reinterpret_cast<float*>(take(rows * groups * 4));
        q.sums = reinterpret_cast<std::int32_t*>(take(rows * groups * 4));
        q.ldg = rows;
        return q;
    }

    int rows_;
    std::byte* base_ = nullptr;
    std::size_t bytes_ = 0;
    Buffer buffer_;
};

}  // namespace pygpt
