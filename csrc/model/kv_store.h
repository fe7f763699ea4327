// Writes keys and values into pages, in the cache's format and layout.
#pragma once

#include <cstddef>

#include "model/kv_cache.h"

namespace pygpt {

// Keys and values of all heads of consecutive positions: (rows, n_kv_head * head_dim) each, row stride ld.
struct NewKeysValues {
    const float* keys;
    const float* values;
    std::ptrdiff_t ld;
    int rows;
    const float* centers = nullptr;  // (n_kv_head * head_dim,) at these positions, or null: see KeyCenters
    const float* feedback = nullptr;  // of all heads at these positions, or null: see KeyFeedback
};

// Stores them as the slots slot ... slot + rows - 1 of a layer of a page.
void store_rows(const PageLayout& layout, int layer, std::byte* page, int slot, const NewKeysValues& from);
// The same of one head, which has cache lines of its own.
void store_head(const PageLayout& layout, int layer, int head, std::byte* page, int slot, const NewKeysValues& from);

// Makes all slots of a page from `slot` on zeros, in the layers of its class.
void clear_slots(const PageLayout& layout, std::size_t page_class, std::byte* page, int slot);

}  // namespace pygpt
