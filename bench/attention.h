// The cases of attention, over pages that are in no cache.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/lanes.h"
#include "cases.h"
#include "model/kv_cache.h"
#include "model/kv_store.h"
#include "ops/paged_attention.h"
#include "roofs.h"

namespace {

// Pages of one long sequence, in so many layers that none stays in a cache.
struct Pages {
    Pages(const CacheFormat& format, int positions)
        : layout(config(format, positions), format), source(noise(2 * kPagePositions * kHidden, 4)) {
        for (int first = 0; first < positions; first += kPagePositions) {
            memory.emplace_back(layout.page_bytes(0));
            data.push_back(memory.back().data());
            std::vector<float> x = source;
            for (float& v : x) v *= factor(first);
            for (std::size_t layer = 0; layer < layout.page_bytes(0) / layout.keys(1, 0); ++layer) {
                store_rows(layout, static_cast<int>(layer), data.back(), 0,
                           {x.data(), x.data() + kHidden, 2 * kHidden, kPagePositions});
            }
        }
    }

    static ModelConfig config(const CacheFormat& format, int positions) {
        ModelConfig c;
        c.n_kv_head = kHeads;
        c.head_dim = kHeadDim;
        c.layers.resize(static_cast<std::size_t>(layers(format, positions)));
        return c;
    }

    static int layers(const CacheFormat& format, int positions) {
        const std::size_t pages = static_cast<std::size_t>(ceil_div(positions, kPagePositions));
        return static_cast<int>(kModelBytes / (pages * kHeads * 2 * format.head_bytes(kHeadDim)));
    }

    static float factor(int position) {
        return static_cast<float>(1 + position / kPagePositions * kPagePositions % 5) / 5.0f;
    }
    // Number i of a position's key (i < kHidden), or of its value after it, before it was stored.
    double element(int position, int i) const {
        return source[static_cast<std::size_t>(position % kPagePositions * 2 * kHidden + i)] * factor(position);
    }

    PageLayout layout;
    std::vector<float> source;  // (64, keys and values)
    std::vector<Buffer> memory;
    std::vector<std::byte*> data;
};

// Layer 0 of the last row, all heads.
void check_attention(const Pages& pages, const float* q, const float* out, int limit, double tolerance) {
    for (int head = 0; head < kHeads; ++head) {
        std::vector<double> sums(kHeadDim, 0.0);
        double total = 0.0;
        for (int t = 0; t < limit; ++t) {
            double score = 0.0;
            for (int d = 0; d < kHeadDim; ++d) score += q[head * kHeadDim + d] * pages.element(t, head * kHeadDim + d);
            const double weight = std::exp(score / 8.0);
            total += weight;
            for (int d = 0; d < kHeadDim; ++d) {
                sums[static_cast<std::size_t>(d)] += weight * pages.element(t, kHidden + head * kHeadDim + d);
            }
        }
        for (int d = 0; d < kHeadDim; ++d) {
            expect(out[head * kHeadDim + d], sums[static_cast<std::size_t>(d)] / total, tolerance, "attention");
        }
    }
}

// `rows` new tokens, of which the last sees `positions`.
void bench_attention(Meter& meter, DType dtype, const std::string& name, int rows, int positions) {
    if (!meter.wants("attention", name_of(dtype))) return;
    const CacheFormat& format = meter.kernels.cache(dtype);
    const Pages pages(format, positions);
    const int layers = Pages::layers(format, positions), first = positions - rows;
    const AttentionSequence sequence{0, rows, first, pages.data};
    const auto values = static_cast<std::size_t>(rows) * kHidden;
    const std::vector<float> q = noise(values, 5);
    std::vector<float> out(values);
    const int threads = meter.team.size();
    Buffer scratch(4 * (attention_scratch(kHeadDim) * static_cast<std::size_t>(threads) +
                        split_floats(rows, kHeads, kHeadDim, positions, threads)));
    AttentionPlan plan;
    plan.make({&sequence, 1}, {kHeads, kHeads, kHeadDim, 0, scratch.size() / 4}, threads);
    int next = 0;
    const auto run = [&] {
        const int layer = next++ % layers;
        paged_attention(meter.kernels, meter.team, plan,
                        {kHeads,
                         kHeads,
                         kHeadDim,
                         format,
                         pages.layout.keys(layer, 0),
                         pages.layout.values(layer, 0),
                         pages.layout.keys(0, 1),
                         nullptr,
                         0,
                         ScoreRule{0.125f},
                         q.data(),
                         kHidden,
                         out.data(),
                         kHidden,
                         {scratch.as<float>(), scratch.size() / 4}});
    };
    run();
    const std::size_t last = values - kHidden;
    check_attention(pages, q.data() + last, out.data() + last, positions,
                    dtype == DType::f32   ? 1e-5
                    : dtype == DType::f16 ? 1e-3
                                          : 2e-2);
    const double seen = (first + 1.0 + positions) / 2.0 * rows;  // keys of all queries of a head
    const double bytes = 2.0 * positions * kHeads * static_cast<double>(format.head_bytes(kHeadDim)) / kPagePositions;
    meter.measure({"attention", name_of(dtype), name, bytes, 4.0 * seen * kHidden, run});
}

}  // namespace
