#include "model/forward.h"

#include <algorithm>

#include "model/kv_store.h"
#include "ops/activations.h"
#include "ops/experts.h"
#include "ops/head.h"
#include "ops/linear.h"
#include "ops/mlp.h"
#include "ops/rotary.h"
#include "threads/parallel.h"

namespace pygpt {

namespace {

const float* data_or_null(const std::vector<float>& v) { return v.empty() ? nullptr : v.data(); }

// One row of a product's input in the form that the weights want.
void prepare(const Model& m, const float* x, int k, int row, const QuantizedRows& to) {
    const LinearFormat& format = m.weights.format();
    if (format.prepare != nullptr) format.prepare(x, k, to.at(row, 0));
}

// The same for the first `rows` rows of x, of which nobody has one in the cache.
void prepare_rows(const Model& m, const Activations& x, int k, int rows, const QuantizedRows& to) {
    if (m.weights.format().prepare == nullptr) return;
    for_rows(m.team, rows, [&](int row) { prepare(m, x.row(row), k, row, to); });
}

// What a branch reads, into ws.normed, in one pass with the settling of what is pending; or, if that stays pending, of
// the stream before it.
void read(const Model& m, Residual& r, const NormWeights* norm, bool stays, int rows, Workspace& ws) {
    for_rows(m.team, rows, [&](int row) {
        if (!stays) settle(m, r, row);
        norm_row(m, norm, r.x.row(row), ws.normed.row(row));
        prepare(m, ws.normed.row(row), m.config.n_embd, row, ws.input);
    });
    if (!stays) r.n_pending = 0;
}

LinearCall call(const Linear& l, int rows, const Activations& x, const QuantizedRows& quantized, const Activations& y) {
    return {l.weight, data_or_null(l.bias), x.data, x.stride, quantized, rows, y.data, y.stride};
}

void project(const Model& m, const Linear& l, int rows, const Activations& x, const QuantizedRows& quantized,
             const Activations& y) {
    linear(m.team, call(l, rows, x, quantized, y));
}

// The stream that the first block reads.
void embed(const Model& m, const Step& step, Workspace& ws) {
    const ModelConfig& c = m.config;
    const auto look_up = [&](int row, float* to) {
        m.weights.embed.read_row(step.tokens[static_cast<std::size_t>(row)], to);
        if (c.embed_scale != 1.0f) {
            for (int i = 0; i < c.embed_width(); ++i) to[i] *= c.embed_scale;
        }
    };
    if (c.embed_dim) {
        for_rows(m.team, step.rows(), [&](int row) {
            look_up(row, ws.normed.row(row));
            prepare(m, ws.normed.row(row), c.embed_width(), row, ws.input);
        });
        project(m, m.weights.embed_proj, step.rows(), ws.normed, ws.input, ws.x);
    }
    for_rows(m.team, step.rows(), [&](int row) {
        const auto at = static_cast<std::size_t>(row);
        float* x = ws.x.row(row);
        if (!c.embed_dim) look_up(row, x);
        if (c.learned_positions) {
            const float* position =
                m.weights.positions.data() + static_cast<std::ptrdiff_t>(step.positions[at]) * c.n_embd;
            for (int i = 0; i < c.n_embd; ++i) x[i] += position[i];
        }
        if (c.embed_norm) norm_row(m, &m.weights.embed_norm, x, x);
        for (std::size_t i = 0; i < m.ropes.size(); ++i) {
            const Angles& angles = ws.angles[i];
            const Rope& rope = m.ropes.distinct(i);
            rotary_table(step.positions[at], rope.inv_freq, rope.attention_factor, angles.cos.row(row),
                         angles.sin.row(row));
        }
        show(m, Site::embedding, 0, row, x, c.n_embd);
    });
}

// RMS norm of the queries or of the keys of one row, `width` values, each as wide as the weight.
void norm_heads(const Model& m, const std::vector<float>& weight, float* x, int width) {
    const int n = static_cast<int>(weight.size());
    m.kernels.rms_norm({x, n, x, n, width / n, n, weight.data(), nullptr, m.config.norm_eps});
}

// Norms a row's queries and keys and turns them by the angles of its position, where the model does so; then whoever
// looks sees them.
void place(const Model& m, int row, int layer, Workspace& ws) {
    const ModelConfig& c = m.config;
    float *const q = ws.qkv.row(row), *const k = q + c.q_width();
    if (c.qk_norm) {
        const Block& b = m.weights.blocks[static_cast<std::size_t>(layer)];
        norm_heads(m, b.q_norm, q, c.q_width());
        norm_heads(m, b.k_norm, k, c.kv_width());
    }
    if (const std::optional<Rope>& rope = c.layers[static_cast<std::size_t>(layer)].rope) {
        const Angles& angles = ws.angles[m.ropes.of_layer(layer)];
        const float *cos = angles.cos.row(row), *sin = angles.sin.row(row);
        m.kernels.rope({q, c.n_head, c.head_dim, rope->dim(), rope->interleaved, cos, sin});
        m.kernels.rope({k, c.n_kv_head, c.head_dim, rope->dim(), rope->interleaved, cos, sin});
    }
    show(m, Site::queries, layer, row, q, c.q_width());
    show(m, Site::keys, layer, row, k, c.kv_width());
    show(m, Site::values, layer, row, k + c.kv_width(), c.kv_width());
}

bool is_placed(const Model& m, int layer) {
    return m.config.qk_norm || m.config.layers[static_cast<std::size_t>(layer)].rope.has_value() || m.tap != nullptr;
}

// New rows of a sequence that lie in one page.
struct PageRows {
    std::byte* page;
    int slot, segment;
    int row, rows;
};

int count_pages(const AttentionSequence& s) {
    return (s.first_position + s.n_rows - 1) / kPagePositions - s.first_position / kPagePositions + 1;
}

// Of its pages with new rows the one numbered i.
PageRows page_rows(const AttentionSequence& s, int i) {
    const int page = s.first_position / kPagePositions + i, begin = std::max(s.first_position, page * kPagePositions);
    const int end = std::min(s.first_position + s.n_rows, (page + 1) * kPagePositions);
    return {s.pages[static_cast<std::size_t>(page)], begin % kPagePositions, begin / kSegmentPositions,
            s.first_row + begin - s.first_position, end - begin};
}

NewKeysValues keys_values(const Model& m, const PageRows& at, int layer, const Workspace& ws) {
    const float* k = ws.qkv.row(at.row) + m.config.q_width();
    return {k,       k + m.config.kv_width(),         ws.qkv.stride,
            at.rows, m.centers.at(layer, at.segment), m.feedback.at(layer, at.segment)};
}

// Places the rows and stores their keys and values. A page's keys lie dimension by dimension, so its positions share
// cache lines: a task stores a head's of one page, or, where each sequence has one new row, all of a row.
void place_and_store(const Model& m, const Step& step, int layer, Workspace& ws) {
    const std::vector<AttentionSequence>& sequences = step.sequences[m.layout.class_of(layer)];
    if (static_cast<int>(sequences.size()) == step.rows()) {
        return for_rows(m.team, step.rows(), [&](int row) {
            place(m, row, layer, ws);
            const PageRows at = page_rows(sequences[static_cast<std::size_t>(row)], 0);
            store_rows(m.layout, layer, at.page, at.slot, keys_values(m, at, layer, ws));
        });
    }
    if (is_placed(m, layer)) for_rows(m.team, step.rows(), [&](int row) { place(m, row, layer, ws); });
    int pages = 0;
    for (const AttentionSequence& s : sequences) pages += count_pages(s);
    const int heads = m.layout.heads();
    m.team.parallel_for(pages * heads, [&](int task, int) {
        int i = task / heads;
        auto s = sequences.begin();
        for (; i >= count_pages(*s); ++s) i -= count_pages(*s);
        const PageRows at = page_rows(*s, i);
        store_head(m.layout, layer, task % heads, at.page, at.slot, keys_values(m, at, layer, ws));
    });
}

ScoreRule score_rule(const Model& m, int layer) {
    const auto at = static_cast<std::size_t>(layer);
    const LayerConfig& c = m.config.layers[at];
    return {c.attn_scale, c.score_cap.value_or(0.0f), c.alibi_slopes, m.weights.blocks[at].sinks};
}

// Of the stream and of the queries, the rows that are read become the first ones.
void keep_read(const Model& m, const Step& step, Workspace& ws) {
    for (std::size_t i = 0; i < step.read.size(); ++i) {  // rows rise, so a row is read before it is overwritten
        const auto to = static_cast<std::ptrdiff_t>(i);
        if (step.read[i] == to) continue;
        std::copy_n(ws.x.row(step.read[i]), m.config.n_embd, ws.x.row(to));
        std::copy_n(ws.qkv.row(step.read[i]), m.config.q_width(), ws.qkv.row(to));
    }
}

void plan_attention(const Model& m, const Step& step, Workspace& ws) {
    const ModelConfig& c = m.config;
    const std::size_t n = m.layout.n_classes();
    ws.plans.resize(n + 1);
    const auto make = [&](std::size_t at, std::span<const AttentionSequence> sequences, std::size_t page_class) {
        ws.plans[at].make(sequences,
                          {c.n_head, c.n_kv_head, c.head_dim, m.layout.window(page_class), ws.attention.size()},
                          m.team.size());
    };
    for (std::size_t i = 0; i < n; ++i) make(i, step.sequences[i], i);
    make(n, step.read_sequences, m.layout.class_of(c.n_layer() - 1));
}

void attend(const Model& m, const AttentionPlan& plan, int layer, int rows, Workspace& ws) {
    const ModelConfig& c = m.config;
    paged_attention(
        m.kernels, m.team, plan,
        {c.n_head, c.n_kv_head, c.head_dim, m.layout.format(layer), m.layout.keys(layer, 0), m.layout.values(layer, 0),
         m.layout.head_bytes(layer), m.centers.at(layer, 0), m.centers.stride(layer), score_rule(m, layer), ws.qkv.data,
         ws.qkv.stride, ws.attended.data, ws.attended.stride, ws.attention});
    if (m.tap == nullptr) return;
    for_rows(m.team, rows, [&](int row) { show(m, Site::heads, layer, row, ws.attended.row(row), c.q_width()); });
}

// The MLP that every token runs, `inner` wide, from normed to normed.
MlpCall mlp_call(const Model& m, const Mlp& weights, int inner, int rows, const Workspace& ws) {
    const Activations& values = m.config.gated_mlp ? ws.gated : ws.up;
    return {weights, inner, rows, ws.normed, ws.input, ws.up, values, ws.inner, ws.normed};
}

void experts(const Model& m, const Experts& e, const Block& b, int rows, Workspace& ws) {
    const MlpCall shared = mlp_call(m, b.mlp, e.shared_inner.value_or(0), rows, ws);
    ExpertRows memory = ws.experts;
    memory.begin = memory.begin.first(static_cast<std::size_t>(e.n_expert) + 1);
    run_experts(m.kernels, m.team,
                {{e.n_expert, e.n_used, e.normalized, e.shared_inner.has_value(), e.shared_gate},
                 b.router,
                 b.experts,
                 e.n_inner,
                 {m.config.activation, m.config.gated_mlp},
                 e.shared_inner ? &shared : nullptr,
                 m.config.n_embd,
                 rows,
                 ws.normed,
                 ws.input,
                 ws.normed,
                 memory,
                 ws.part});
}

// The branch from normed to normed.
void mlp(const Model& m, int layer, int rows, Workspace& ws) {
    const auto at = static_cast<std::size_t>(layer);
    const Block& b = m.weights.blocks[at];
    if (const std::optional<Experts>& e = m.config.layers[at].experts) return experts(m, *e, b, rows, ws);
    MlpCall call = mlp_call(m, b.mlp, m.config.n_inner, rows, ws);
    const auto look = [&](int row, int first, float* values, int n) {
        (*m.tap)({Site::neurons, layer, row, first, values, n});
    };
    if (m.tap != nullptr) call.look = look;
    run_mlps(m.kernels, m.team, {m.config.activation, m.config.gated_mlp}, {&call, 1}, ws.part);
}

BranchNorms attention_norms(const Model& m, int layer) {
    const Block& b = m.weights.blocks[static_cast<std::size_t>(layer)];
    return {m.config.norm_placement, b.attn_norm, b.attn_post_norm};
}

}  // namespace

void project_qkv(const Model& m, Residual& residual, int layer, int rows, Workspace& ws) {
    read(m, residual, attention_norms(m, layer).before, false, rows, ws);
    project(m, m.weights.blocks[static_cast<std::size_t>(layer)].qkv, rows, ws.normed, ws.input, ws.qkv);
}

Residual run_blocks(const Model& m, const Step& step, Workspace& ws, const std::function<void()>& stop) {
    int rows = step.rows();
    const ModelConfig& c = m.config;
    const bool parallel = c.branches != Branches::sequential;
    Residual residual{ws.x};
    embed(m, step, ws);
    plan_attention(m, step, ws);
    for (int layer = 0; layer < c.n_layer(); ++layer) {
        stop();
        const Block& b = m.weights.blocks[static_cast<std::size_t>(layer)];
        const BranchNorms of_mlp(c.norm_placement, c.branches == Branches::parallel_one_norm ? b.attn_norm : b.mlp_norm,
                                 b.mlp_post_norm);
        project_qkv(m, residual, layer, rows, ws);
        place_and_store(m, step, layer, ws);
        const bool last = layer + 1 == c.n_layer();
        if (last) {
            keep_read(m, step, ws);
            rows = static_cast<int>(step.read.size());
            if (rows == 0) break;
        }
        attend(m, last ? ws.plans.back() : ws.plans[m.layout.class_of(layer)], layer, rows, ws);
        prepare_rows(m, ws.attended, c.q_width(), rows, ws.input);
        project(m, b.attn_out, rows, ws.attended, ws.input, ws.mixed);
        residual.add(ws.mixed, attention_norms(m, layer), layer, Site::attention_out);
        read(m, residual, of_mlp.before, parallel, rows, ws);
        mlp(m, layer, rows, ws);
        residual.add(ws.normed, of_mlp, layer, Site::mlp_out);
    }
    return residual;
}

void final_norm(const Model& m, const Residual& residual, int rows, Workspace& ws) {
    const NormWeights* const norm = m.config.final_norm() ? &m.weights.norm : nullptr;
    for_rows(m.team, rows, [&](int row) {
        settle(m, residual, row);
        norm_row(m, norm, residual.x.row(row), ws.normed.row(row));
    });
}

namespace {

// The head's product of the rows of ws.normed from `first` on, with its input prepared.
HeadCall head_call(const Model& m, int first, int rows, const Workspace& ws, float* y) {
    const ModelConfig& c = m.config;
    Activations x = ws.normed.from(first);
    prepare_rows(m, x, c.n_embd, rows, ws.input);
    if (c.embed_dim) {
        project(m, m.weights.head_proj, rows, x, ws.input, ws.x);  // nobody reads the stream any more
        x = ws.x;
        prepare_rows(m, x, c.embed_width(), rows, ws.input);
    }
    const float* const bias = data_or_null(m.weights.head.bias);
    return {{m.weights.head_matrix(), bias, x.data, x.stride, ws.input, rows, y, c.n_vocab},
            c.logit_scale,
            c.logit_cap.value_or(0.0f)};
}

}  // namespace

void head(const Model& m, int first, int rows, const Workspace& ws, float* to) {
    logits(m.kernels, m.team, head_call(m, first, rows, ws, to));
}

void score(const Model& m, int first, std::span<const Targets> targets, const Workspace& ws) {
    const HeadCall call = head_call(m, first, static_cast<int>(targets.size()), ws, nullptr);
    score(m.kernels, m.team, call, targets, ws.scores, ws.part);
}

}  // namespace pygpt
