#include "model/kv_store.h"

#include <vector>

namespace pygpt {

void store_head(const PageLayout& layout, int layer, int head, std::byte* page, int slot, const NewKeysValues& from) {
    const int head_dim = layout.head_dim();
    const std::ptrdiff_t at = std::ptrdiff_t{head} * head_dim;
    const float* const feedback =
        from.feedback == nullptr ? nullptr : from.feedback + std::ptrdiff_t{head} * feedback_floats(head_dim);
    layout.format(layer).store({from.keys + at, from.values + at, from.ld, from.rows, head_dim, slot,
                                from.centers == nullptr ? nullptr : from.centers + at, feedback,
                                page + layout.keys(layer, head), page + layout.values(layer, head)});
}

void store_rows(const PageLayout& layout, int layer, std::byte* page, int slot, const NewKeysValues& from) {
    for (int head = 0; head < layout.heads(); ++head) store_head(layout, layer, head, page, slot, from);
}

void clear_slots(const PageLayout& layout, std::size_t page_class, std::byte* page, int slot) {
    const std::vector<float> zeros(static_cast<std::size_t>(layout.heads()) *
                                   static_cast<std::size_t>(layout.head_dim()));
    for (int layer = 0; layer < layout.n_layers(); ++layer) {
        if (layout.class_of(layer) != page_class) continue;
        store_rows(layout, layer, page, slot, {zeros.data(), zeros.data(), 0, kPagePositions - slot});
    }
}

}  // namespace pygpt
