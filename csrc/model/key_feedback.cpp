#include "model/key_feedback.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "base/lanes.h"
#include "kernels/cache_format.h"
#include "model/forward.h"
#include "ops/rotary.h"
#include "threads/parallel.h"

namespace pygpt {

namespace {

constexpr int kSamples = 128;                           // inputs that stand for all
constexpr int kBlocks = 8;                              // that positions have at most
constexpr int kLeastBlock = 4096 / kSegmentPositions;   // segments of a block
constexpr double kEveryDirection = 0.01;                // of the queries' mean square is added to each of M's

// (n, n), row by row.
struct Square {
    explicit Square(int n) : n(n), values(static_cast<std::size_t>(n) * static_cast<std::size_t>(n)) {}

    double* operator[](int row) { return values.data() + static_cast<std::ptrdiff_t>(row) * n; }

    int n;
    std::vector<double> values;
};

// A rope's angles at the samples' positions in each block.
struct Samples {
    Samples(const Rope& rope, int blocks, int positions, Team& team)
        : half(rope.dim() / 2), cos(static_cast<std::size_t>(blocks * kSamples * half)), sin(cos.size()) {
        team.parallel_for(blocks, [&](int block, int) {
            for (int i = 0; i < kSamples; ++i) {
                // In golden sections of the block: evenly spread, and in step with no frequency.
                const std::uint64_t part = static_cast<std::uint32_t>(i) * 2654435769u;
                const int position =
                    block * positions + static_cast<int>(part * static_cast<unsigned>(positions) >> 32);
                rotary_table(position, rope.inv_freq, rope.attention_factor, cos.data() + at(block, i),
                             sin.data() + at(block, i));
            }
        });
    }

    std::ptrdiff_t at(int block, int sample) const { return std::ptrdiff_t{block * kSamples + sample} * half; }

    int half;
    std::vector<float> cos, sin;
};

// x (padded,) times the rotation of queries of an int8 cache, see CacheFormat.
void rotate(double* x, int padded) {
    while (padded > 0) {
        int size = 16, halvings = 4;
        for (; 2 * size <= padded; size *= 2) ++halvings;
        for (int distance = 1; distance < size; distance *= 2) {
            for (int i = 0; i < size; ++i) {
                if ((i & distance) != 0) continue;
                const double a = x[i], b = x[i + distance];
                x[i] = a + b;
                x[i + distance] = a - b;
            }
        }
        for (int i = 0; i < size; ++i) x[i] = std::ldexp(x[i], halvings / 2 - halvings);
        x += size;
        padded -= size;
    }
}

// M of the queries that a head of keys has in a block, all but what their number divides it by.
Square mean_square(const Model& m, const Workspace& ws, const Rope& rope, const Samples& samples, int head, int block) {
    const int width = m.config.head_dim, padded = padded_head(width), group = m.config.n_head / m.config.n_kv_head;
    std::vector<float> sums(static_cast<std::size_t>(padded * padded)), q(static_cast<std::size_t>(group * width));
    for (int i = 0; i < kSamples; ++i) {
        std::copy_n(ws.qkv.row(i) + head * group * width, group * width, q.data());
        m.kernels.rope({q.data(), group, width, rope.dim(), rope.interleaved, samples.cos.data() + samples.at(block, i),
                        samples.sin.data() + samples.at(block, i)});
        for (const float* x = q.data(); x != q.data() + group * width; x += width) {
            for (int a = 0; a < width; ++a) {
                float* const to = sums.data() + a * padded;
                for (int b = 0; b <= a; ++b) to[b] += x[a] * x[b];
            }
        }
    }
    Square mean(padded);
    for (int a = 0; a < padded; ++a) {
        for (int b = 0; b <= a; ++b) mean[a][b] = mean[b][a] = sums[static_cast<std::size_t>(a * padded + b)];
    }
    for (int side = 0; side < 2; ++side) {  // rows, then columns
        for (int a = 0; a < padded; ++a) {
            rotate(mean[a], padded);
            for (int b = 0; b < a; ++b) std::swap(mean[a][b], mean[b][a]);
        }
    }
    return mean;
}

// A's columns as rows: feedback (n, n), of zeros before.
void factor(Square m, float* feedback) {
    double trace = 0.0;
    for (int i = 0; i < m.n; ++i) trace += m[i][i];
    if (!(trace > 0.0) || !std::isfinite(trace)) return;
    for (int i = 0; i < m.n; ++i) m[i][i] += kEveryDirection * trace / m.n;
    for (int i = m.n - 1; i > 0; --i) {  // m[i] becomes A's row, and what is before it loses what is of it
        for (int j = 0; j < i; ++j) {
            const double a = m[i][j] / m[i][i];
            for (int k = 0; k <= j; ++k) m[j][k] -= a * m[i][k];
            feedback[j * m.n + i] = static_cast<float>(a);
        }
    }
}

}  // namespace

KeyFeedback::KeyFeedback(const Model& m) {
    const ModelConfig& c = m.config;
    if (!c.keys_keep_bias() || m.ropes.size() == 0) return;
    const int segments = ceil_div(c.n_ctx, kSegmentPositions);
    block_segments_ = std::max(kLeastBlock, ceil_div(segments, kBlocks));
    const int blocks = ceil_div(segments, block_segments_), positions = block_segments_ * kSegmentPositions;
    block_floats_ = std::ptrdiff_t{c.n_kv_head} * feedback_floats(c.head_dim);
    std::vector<Samples> samples;
    for (std::size_t i = 0; i < m.ropes.size(); ++i)
        samples.emplace_back(m.ropes.distinct(i), blocks, positions, m.team);
    Workspace ws(c, m.ropes, m.weights, kSamples, m.team.size());
    std::mt19937 bits;  // the same everywhere
    for (int row = 0; row < kSamples; ++row) {
        for (int i = 0; i < c.n_embd; ++i) ws.x.row(row)[i] = bits() % 2 == 0 ? 1.0f : -1.0f;
    }
    for (int layer = 0; layer < c.n_layer(); ++layer) {
        Buffer& feedback = layers_.emplace_back();
        const std::optional<Rope>& rope = c.layers[static_cast<std::size_t>(layer)].rope;
        if (!rope || !m.layout.format(layer).centered) continue;
        feedback = Buffer(static_cast<std::size_t>(blocks * block_floats_) * sizeof(float));
        Residual stream{ws.x};
        project_qkv(m, stream, layer, kSamples, ws);
        m.team.parallel_for(blocks * c.n_kv_head, [&](int task, int) {
            const int block = task / c.n_kv_head, head = task % c.n_kv_head;
            factor(mean_square(m, ws, *rope, samples[m.ropes.of_layer(layer)], head, block),
                   feedback.as<float>() + std::ptrdiff_t{task} * feedback_floats(c.head_dim));
        });
    }
}

}  // namespace pygpt
