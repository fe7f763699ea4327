#include "model/kv_store.h"

#include <algorithm>

namespace pygpt {

namespace {

// Keys turn from rows to columns in blocks that fit into the first-level cache.
constexpr int kRows = 16, kDims = 64;

void convert(const Kernels&, const float* x, float* y, int n) { std::copy_n(x, n, y); }
void convert(const Kernels& kernels, const float* x, Half* y, int n) { kernels.to_f16(x, y, n); }

template <class T>
void store_keys(const Kernels& kernels, const float* x, std::ptrdiff_t ld, int rows, int head_dim, int slot, T* to) {
    T block[kRows][kDims];
    for (int first = 0; first < head_dim; first += kDims) {
        const int dims = std::min(kDims, head_dim - first);
        for (int row = 0; row < rows; ++row) convert(kernels, x + row * ld + first, block[row], dims);
        for (int d = 0; d < dims; ++d) {
            for (int row = 0; row < rows; ++row) to[PageLayout::key_at(slot + row, first + d)] = block[row][d];
        }
    }
}

template <class T>
void store(const Kernels& kernels, const PageLayout& layout, int layer, std::byte* page, int slot,
           const NewKeysValues& from) {
    const int head_dim = layout.head_dim();
    for (int head = 0; head < layout.heads(); ++head) {
        T* const keys = reinterpret_cast<T*>(page + layout.keys(layer, head));
        T* const values = reinterpret_cast<T*>(page + layout.values(layer, head));
        for (int row = 0; row < from.rows; row += kRows) {
            const std::ptrdiff_t at = row * from.ld + head * head_dim;
            store_keys(kernels, from.keys + at, from.ld, std::min(kRows, from.rows - row), head_dim, slot + row, keys);
        }
        for (int row = 0; row < from.rows; ++row) {
            convert(kernels, from.values + row * from.ld + head * head_dim, values + layout.value_at(slot + row, 0),
                    head_dim);
        }
    }
}

}  // namespace

void store_rows(const Kernels& kernels, const PageLayout& layout, int layer, std::byte* page, int slot,
                const NewKeysValues& from) {
    if (layout.dtype() == DType::f16) {
        store<Half>(kernels, layout, layer, page, slot, from);
    } else {
        store<float>(kernels, layout, layer, page, slot, from);
    }
}

}  // namespace pygpt
