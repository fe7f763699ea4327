#include "model/kv_store.h"

namespace pygpt {

void store_head(const PageLayout& layout, int layer, int head, std::byte* page, int slot, const NewKeysValues& from) {
    const int head_dim = layout.head_dim();
    const std::ptrdiff_t at = std::ptrdiff_t{head} * head_dim;
    layout.format().store({from.keys + at, from.values + at, from.ld, from.rows, head_dim, slot,
                           from.centers == nullptr ? nullptr : from.centers + at, page + layout.keys(layer, head),
                           page + layout.values(layer, head)});
}

void store_rows(const PageLayout& layout, int layer, std::byte* page, int slot, const NewKeysValues& from) {
    for (int head = 0; head < layout.heads(); ++head) store_head(layout, layer, head, page, slot, from);
}

}  // namespace pygpt
