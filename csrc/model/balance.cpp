#include "model/balance.h"

#include <algorithm>
#include <cmath>

namespace pygpt {

namespace {

constexpr float kMostFactor = 64.0f;
constexpr float kMostOfNorm = 8.0f;  // less, for the other matrices that read it pay for what suits one
// Rows by which the size of a column is estimated: to about a tenth, of which the factor has half. All matrices behind
// a norm hang on one of them, of which more is looked at.
constexpr int kSampledRows = 64;
constexpr int kRowsOfNorm = 256;

// For each column the sum of its squares, over about so many of the rows.
std::vector<float> column_squares(const Plain& all, int rows) {
    const int step = std::max(1, all.rows / rows);
    Plain sample = all;
    sample.rows = ceil_div(all.rows, step);
    sample.row_stride *= step;
    const auto cols = static_cast<std::size_t>(all.cols);
    std::vector<float> values(static_cast<std::size_t>(sample.rows) * cols), squares(cols, 0.0f);
    to_floats(sample, values.data());
    for (std::size_t row = 0; row < values.size(); row += cols) {
        for (std::size_t i = 0; i < cols; ++i) squares[i] += values[row + i] * values[row + i];
    }
    return squares;
}

// Factors for channels of which the inputs and the weights have these sums of squares. Square roots are the only
// functions here, as they are the same everywhere. As a whole the inputs stay as large as they were.
std::vector<float> equalised(const std::vector<float>& inputs, const std::vector<float>& weights, float most) {
    std::vector<float> factors(inputs.size(), 0.0f);
    float before = 0.0f, after = 0.0f;
    for (std::size_t i = 0; i < factors.size(); ++i) {
        const float ratio = weights[i] / inputs[i];
        if (!std::isfinite(ratio) || !(ratio > 0.0f)) continue;
        factors[i] = std::sqrt(std::sqrt(ratio));
        before += inputs[i];
        after += inputs[i] * factors[i] * factors[i];
    }
    const float all = std::sqrt(before / after);
    for (float& factor : factors) {
        factor *= all;
        factor = factor > 0.0f && std::isfinite(factor) ? std::clamp(factor, 1.0f / most, most) : 1.0f;
    }
    return factors;
}

}  // namespace

std::vector<float> balance(const Source& source, const PackedMatrix& from, const Plain& to) {
    const auto rows = static_cast<std::size_t>(source.rows);
    std::vector<float> inputs(rows), weights(rows, 0.0f);
    const std::vector<float> squares = column_squares(to, kSampledRows);
    for (int i = 0; i < to.cols; ++i) {
        weights[static_cast<std::size_t>(source.row_of(i))] += squares[static_cast<std::size_t>(i)];
    }
    // A group's scale stands for the size of its values.
    for (std::size_t i = 0; i < rows; ++i) {
        inputs[i] = from.squared_scales(source.channels.channel(static_cast<int>(i)));
    }
    return equalised(inputs, weights, kMostFactor);
}

std::vector<float> balance_norm(const Plain& to) {
    const std::vector<float> squares = column_squares(to, kRowsOfNorm);
    return equalised(std::vector<float>(squares.size(), 1.0f), squares, kMostOfNorm);
}

}  // namespace pygpt
