// The transformer's forward pass: one block loop for every family.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "model/config.h"
#include "model/kv_cache.h"
#include "model/residual.h"
#include "model/weights.h"
#include "model/workspace.h"
#include "ops/paged_attention.h"

namespace pygpt {

class Team;

// What a step reads, and the threads that run it.
struct Model {
    const ModelConfig& config;
    const Weights& weights;
    const Kernels& kernels;
    const PageLayout& layout;
    const DistinctRopes& ropes;
    Team& team;
};

// The new tokens of one step, sequence by sequence.
struct Step {
    std::vector<int> tokens;
    std::vector<int> positions;
    std::vector<std::vector<AttentionSequence>> sequences;  // with the pages of each class of layers, see PageLayout

    int rows() const { return static_cast<int>(tokens.size()); }
};

// Runs all blocks and writes the tokens' keys and values into their pages. `stop` is called before each layer and may
// throw. The residual stream's rows lie in ws.
Residual run_blocks(const Model& model, const Step& step, Workspace& ws, const std::function<void()>& stop);

// ws.normed[i] = what the head reads of row rows[i]; rows rise. Uses up those rows of the stream.
void final_norm(const Model& model, const Residual& residual, std::span<const int> rows, Workspace& ws);

// logits (rows, n_vocab) of the first `rows` rows of ws.normed.
void head(const Model& model, int rows, const Workspace& ws, float* logits);

}  // namespace pygpt
