// Recorder: a tap that keeps values and puts others in their place.
#pragma once

#include <span>
#include <vector>

#include "model/tap.h"

namespace pygpt {

// Where the values of a place are to go: (T, site_width) of a sequence of T tokens.
struct Record {
    Site site;
    int layer;
    float* to;
};

// Values that take the place of a row's from the column `first` on.
struct Patch {
    Site site;
    int layer;
    int first;
    int width;
    const std::int32_t* rows;  // (T,): of each position the row of `values`, or -1: stays as it is
    const float* values;  // (rows, width)
};

// For one sequence that begins at position 0. Patches of the same value are made in order, then it is recorded.
class Recorder {
public:
    Recorder(const ModelConfig& config, std::span<const Record> records, std::span<const Patch> patches);

    bool operator()(const TappedRow& row) const;

private:
    struct Place {
        float* to = nullptr;
        std::ptrdiff_t width = 0;
        std::vector<Patch> patches;
    };

    std::size_t index(Site site, int layer) const {
        return static_cast<std::size_t>(site) * n_layer_ + static_cast<std::size_t>(layer);
    }

    std::size_t n_layer_;
    std::vector<Place> places_;
};

}  // namespace pygpt
