#include "model/residual.h"

#include <algorithm>
#include <vector>

#include "model/forward.h"

namespace pygpt {

namespace {

// By what a row of a branch is multiplied where it is added. Whoever looks sees it multiplied.
float scale_of(const Model& m, const Residual::Branch& branch, int row, float* y) {
    const float scale = m.config.branch_scale;
    if (m.tap == nullptr) return scale;
    std::vector<float> added(y, y + m.config.n_embd);
    for (float& value : added) value *= scale;
    if (!show(m, branch.out, branch.layer, row, added.data(), m.config.n_embd)) return scale;
    std::copy(added.begin(), added.end(), y);
    return 1.0f;
}

}  // namespace

void norm_row(const Model& m, const NormWeights* w, const float* x, float* y) {
    if (w == nullptr) {
        std::copy_n(x, m.config.n_embd, y);
        return;
    }
    const float* const bias = w->bias.empty() ? nullptr : w->bias.data();
    const NormArgs args{x, 0, y, 0, 1, m.config.n_embd, w->weight.data(), bias, m.config.norm_eps};
    (m.config.norm == Norm::layer_norm ? m.kernels.layer_norm : m.kernels.rms_norm)(args);
}

void settle(const Model& m, const Residual& r, int row) {
    float* const x = r.x.row(row);
    for (int i = 0; i < r.n_pending; ++i) {
        const Residual::Branch& branch = r.pending[static_cast<std::size_t>(i)];
        float* const y = branch.rows.row(row);
        if (branch.after_branch != nullptr) norm_row(m, branch.after_branch, y, y);
        m.kernels.add(x, y, scale_of(m, branch, row, y), m.config.n_embd);
        if (branch.after_sum != nullptr) norm_row(m, branch.after_sum, x, x);
        const Site stream = branch.out == Site::attention_out ? Site::after_attention : Site::hidden;
        show(m, stream, branch.layer, row, x, m.config.n_embd);
    }
}

}  // namespace pygpt
