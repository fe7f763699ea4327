// The transformer's forward pass: one block loop for every family.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "model/config.h"
#include "model/key_centers.h"
#include "model/key_feedback.h"
#include "model/kv_cache.h"
#include "model/residual.h"
#include "model/tap.h"
#include "model/weights.h"
#include "model/workspace.h"
#include "ops/head.h"
#include "ops/paged_attention.h"

namespace pygpt {

class Team;

// What a step reads, and the threads that run it.
struct Model {
    const ModelConfig& config;
    const Weights& weights;
    const Kernels& kernels;
    const PageLayout& layout;
    const KeyCenters& centers;
    const KeyFeedback& feedback;
    const DistinctRopes& ropes;
    Team& team;
    const Tap* tap = nullptr;  // whoever looks; then every row of a step is one that is read
};

// Shows whoever looks a whole row. Whether it was changed.
inline bool show(const Model& m, Site site, int layer, int row, float* values, int n) {
    return m.tap != nullptr && (*m.tap)({site, layer, row, 0, values, n});
}

// The new tokens of one step, sequence by sequence.
struct Step {
    std::vector<int> tokens;
    std::vector<int> positions;
    std::vector<std::vector<AttentionSequence>> sequences;  // with the pages of each class of layers, see PageLayout
    std::vector<int> read;  // the rows whose results somebody reads; they rise
    std::vector<AttentionSequence> read_sequences;  // of these, numbered as in `read`, with the last layer's pages

    int rows() const { return static_cast<int>(tokens.size()); }
};

// A layer's queries, keys and values of rows of the stream, whose pending branches are then settled, before they are
// placed: ws.qkv.
void project_qkv(const Model& model, Residual& residual, int layer, int rows, Workspace& ws);

// Runs all blocks and writes the tokens' keys and values into their pages. `stop` is called before each layer and may
// throw. The first rows of the residual stream in ws are then those of step.read, one after another: of the others the
// last layer computes keys and values only.
Residual run_blocks(const Model& model, const Step& step, Workspace& ws, const std::function<void()>& stop);

// ws.normed = what the head reads of the stream's first rows, which are used up.
void final_norm(const Model& model, const Residual& residual, int rows, Workspace& ws);

// logits (rows, n_vocab) of the rows of ws.normed from `first` on.
void head(const Model& model, int first, int rows, const Workspace& ws, float* logits);

// The scores of what may follow each of these rows.
void score(const Model& model, int first, std::span<const Targets> targets, const Workspace& ws);

}  // namespace pygpt
