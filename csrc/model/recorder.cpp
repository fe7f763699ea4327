#include "model/recorder.h"

#include <algorithm>

namespace pygpt {

namespace {

// Whether the patch has a value for this part of a row; those that it has are written.
bool apply(const Patch& patch, const TappedRow& row) {
    const std::ptrdiff_t from = patch.rows[row.row];
    const int begin = std::max(row.first, patch.first), end = std::min(row.first + row.n, patch.first + patch.width);
    if (from < 0 || begin >= end) return false;
    std::copy_n(patch.values + from * patch.width + (begin - patch.first), end - begin,
                row.values + (begin - row.first));
    return true;
}

}  // namespace

Recorder::Recorder(const ModelConfig& config, std::span<const Record> records, std::span<const Patch> patches)
    : n_layer_(static_cast<std::size_t>(config.n_layer())), places_(enum_names(Site{}).size() * n_layer_) {
    for (const Record& r : records) {
        Place& place = places_[index(r.site, r.layer)];
        place.to = r.to;
        place.width = site_width(config, r.site, r.layer);
    }
    for (const Patch& p : patches) places_[index(p.site, p.layer)].patches.push_back(p);
}

bool Recorder::operator()(const TappedRow& row) const {
    const Place& place = places_[index(row.site, row.layer)];
    bool changed = false;
    for (const Patch& patch : place.patches) changed |= apply(patch, row);
    if (place.to != nullptr) std::copy_n(row.values, row.n, place.to + row.row * place.width + row.first);
    return changed;
}

}  // namespace pygpt
