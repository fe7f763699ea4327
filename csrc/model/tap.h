// Where somebody can look at a forward pass, and put other values in the place of those that are there.
#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "model/config.h"

namespace pygpt {

// In the order in which a pass comes to them. Those of a block have its layer.
enum class Site : std::uint8_t {
    embedding,        // what the first block reads; layer 0
    queries,          // as attention uses them, heads side by side
    keys,             // the same, before they are rounded to the format of the cache
    values,
    heads,            // what attention makes of the values, heads side by side
    attention_out,    // what attention adds to the stream
    after_attention,  // the stream with it
    neurons,  // the inner values of the MLP after its activation, in parts of a row; none of a layer of experts
    mlp_out,  // what the MLP adds to the stream
    hidden,  // the stream with it
};
constexpr std::array<const char*, 10> enum_names(Site) {
    return {"embedding",     "queries",         "keys",    "values",  "heads",
            "attention_out", "after_attention", "neurons", "mlp_out", "hidden"};
}

// Values in a row; 0: the layer has no such place.
inline int site_width(const ModelConfig& c, Site site, int layer) {
    switch (site) {
        case Site::queries:
        case Site::heads:
            return c.q_width();
        case Site::keys:
        case Site::values:
            return c.kv_width();
        case Site::neurons:
            return c.layers[static_cast<std::size_t>(layer)].experts ? 0 : c.n_inner;
        default:
            return c.n_embd;
    }
}

// Values first ... first + n - 1 of the row of one token.
struct TappedRow {
    Site site;
    int layer;
    int row;  // of the step; an engine's tap is told the position instead
    int first;
    float* values;
    int n;
};

// Is shown every row, each value once, from several threads at a time; may write to the values, and returns whether it
// did. A pass without a tap asks one pointer a row whether there is one.
using Tap = std::function<bool(const TappedRow&)>;

}  // namespace pygpt
