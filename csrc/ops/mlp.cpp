#include "ops/mlp.h"

#include <algorithm>
#include <vector>

namespace pygpt {

namespace {

// The inputs of `down` that a part of the product `up` gives.
class Activate {
public:
    Activate(const Kernels& kernels, MlpKind kind, const MlpCall& call, const LinearPart& part)
        : kernels_(kernels), kind_(kind), call_(call), part_(part) {
        const int unit = kind.gated ? 8 : 16;  // of them for each panel
        first_ = part.panel_begin * unit;
        n_ = std::min(part.panel_end * unit, call.n_inner) - first_;
    }

    void run() const {
        const LinearFormat& format = call_.weights.down.weight.format();
        // Parts of a product whose values stay behind need not be whole groups.
        const bool prepares = format.prepare != nullptr && call_.weights.up.weight.format().prepare != nullptr;
        for (int row = part_.row_begin; row < part_.row_end; ++row) {
            float* const values = part_.y + (row - part_.row_begin) * part_.ldy;
            float* const to = prepares ? values : call_.inner.row(row) + first_;
            activate(values, to);
            if (call_.look) call_.look(row, first_, to, n_);
            if (prepares) format.prepare(to, n_, call_.prepared.at(row, first_ / format.group));
        }
    }

private:
    void activate(float* values, float* to) const {
        if (kind_.gated) return kernels_.activate_gated(kind_.activation, values, to, n_);
        kernels_.activate(kind_.activation, values, n_);
        if (to != values) std::copy_n(values, n_, to);
    }

    const Kernels& kernels_;
    const MlpKind kind_;
    const MlpCall& call_;
    const LinearPart& part_;
    int first_, n_;
};

// What remains to be prepared for `down` after the product `up`.
void prepare_rest(Team& team, std::span<const MlpCall> calls) {
    for (const MlpCall& c : calls) {
        const LinearFormat& format = c.weights.down.weight.format();
        if (format.prepare == nullptr || c.weights.up.weight.format().prepare != nullptr) continue;
        for_rows(team, c.rows, [&](int row) { format.prepare(c.inner.row(row), c.n_inner, c.prepared.at(row, 0)); });
    }
}

// The products that product(call) gives, at once.
template <class F>
void run_products(Team& team, std::span<const MlpCall> calls, F product, float* scratch,
                  FunctionRef<void(int, const LinearPart&)> after) {
    if (calls.size() == 1) {  // nothing from the heap
        const LinearCall only = product(calls.front());
        return linears(team, {&only, 1}, scratch, after);
    }
    std::vector<LinearCall> products;
    products.reserve(calls.size());
    for (const MlpCall& c : calls) products.push_back(product(c));
    linears(team, products, scratch, after);
}

}  // namespace

void run_mlps(const Kernels& kernels, Team& team, MlpKind kind, std::span<const MlpCall> calls, float* scratch) {
    const auto up = [](const MlpCall& c) -> LinearCall {
        const Linear& w = c.weights.up;
        float* const y = w.weight.format().prepare != nullptr ? nullptr : c.up.data;
        return {w.weight, w.bias_or_null(), c.x.data, c.x.stride, c.quantized, c.rows, y, c.up.stride};
    };
    const auto down = [](const MlpCall& c) -> LinearCall {
        const Linear& w = c.weights.down;
        return {w.weight, w.bias_or_null(), c.inner.data, c.inner.stride, c.prepared, c.rows, c.y.data, c.y.stride};
    };
    run_products(team, calls, up, scratch, [&](int i, const LinearPart& part) {
        Activate(kernels, kind, calls[static_cast<std::size_t>(i)], part).run();
    });
    prepare_rest(team, calls);
    run_products(team, calls, down, nullptr, nullptr);
}

}  // namespace pygpt
