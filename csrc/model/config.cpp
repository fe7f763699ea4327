#include "model/config.h"

#include <cstdint>
#include <limits>
#include <string>

#include "base/error.h"

namespace pygpt {

namespace {

void check(const std::string& name, std::int64_t value, std::int64_t most) {
    if (value >= 1 && value <= most) return;
    throw InvalidArgument(name + " must be at least 1 and at most " + std::to_string(most) + ", not " +
                          std::to_string(value));
}

}  // namespace

void check_sizes(const ModelConfig& c) {
    // Far above every model there is, and low enough that rounding up, doubling and the bytes of a matrix fit.
    constexpr std::int64_t kMostValues = 1 << 24, kMostLayers = 1 << 16, kMostExperts = 1 << 18;
    check("n_layer", c.n_layer(), kMostLayers);
    check("n_vocab", c.n_vocab, kMostValues);
    check("n_ctx", c.n_ctx, kMostValues);
    check("n_embd", c.n_embd, kMostValues);
    check("embed_dim", c.embed_width(), kMostValues);
    check("n_inner", c.n_inner, kMostValues);
    check("n_head * head_dim", std::int64_t{c.n_head} * c.head_dim, kMostValues);
    check("n_kv_head * head_dim", std::int64_t{c.n_kv_head} * c.head_dim, kMostValues);
    std::int64_t n_expert = 0;
    for (const LayerConfig& layer : c.layers) {
        if (!layer.experts) continue;
        check("experts.n_inner", layer.experts->n_inner, kMostValues);
        check("experts.shared_inner", layer.experts->shared_inner.value_or(1), kMostValues);
        n_expert += layer.experts->n_expert;
    }
    check("the number of experts in all layers, and one,", n_expert + 1, kMostExperts);
    if (c.learned_positions) {
        check("n_ctx * n_embd", std::int64_t{c.n_ctx} * c.n_embd, std::numeric_limits<std::int32_t>::max());
    }
}

}  // namespace pygpt
