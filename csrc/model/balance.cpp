#include "model/balance.h"

#include <algorithm>
#include <cmath>

namespace pygpt {

namespace {

constexpr float kMostFactor = 64.0f;
// Rows by which the size of a column is estimated: to about a tenth, of which the factor has half.
constexpr int kSampledRows = 64;

// For each row of the source the sum of squares of the columns that it feeds, over some rows of `to`.
std::vector<float> column_squares(const Source& source, const Plain& to) {
    const int step = std::max(1, to.rows / kSampledRows);
    Plain sample = to;
    sample.rows = ceil_div(to.rows, step);
    sample.row_stride *= step;
    const auto cols = static_cast<std::size_t>(to.cols);
    std::vector<float> values(static_cast<std::size_t>(sample.rows) * cols), squares(cols, 0.0f);
    to_floats(sample, values.data());
    for (std::size_t row = 0; row < values.size(); row += cols) {
        for (std::size_t i = 0; i < cols; ++i) squares[i] += values[row + i] * values[row + i];
    }
    std::vector<float> sums(static_cast<std::size_t>(source.rows), 0.0f);
    for (int i = 0; i < to.cols; ++i) {
        sums[static_cast<std::size_t>(source.row_of(i))] += squares[static_cast<std::size_t>(i)];
    }
    return sums;
}

}  // namespace

// Square roots are the only functions here, as they are the same everywhere. A group's scale stands for the size of its
// values; as a whole the source's channels stay as large as they were.
std::vector<float> balance(const Source& source, const PackedMatrix& from, const Plain& to) {
    std::vector<float> factors = column_squares(source, to), own(factors.size());
    float before = 0.0f, after = 0.0f;
    for (std::size_t i = 0; i < factors.size(); ++i) {
        own[i] = from.squared_scales(source.channels.channel(static_cast<int>(i)));
        const float ratio = factors[i] / own[i];
        const bool usable = std::isfinite(ratio) && ratio > 0.0f;
        factors[i] = usable ? std::sqrt(std::sqrt(ratio)) : 0.0f;
        if (!usable) continue;
        before += own[i];
        after += own[i] * factors[i] * factors[i];
    }
    const float all = std::sqrt(before / after);
    for (float& factor : factors) {
        factor *= all;
        factor = factor > 0.0f && std::isfinite(factor) ? std::clamp(factor, 1.0f / kMostFactor, kMostFactor) : 1.0f;
    }
    return factors;
}

}  // namespace pygpt
