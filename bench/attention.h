// The cases of attention, over pages that are in no cache.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/lanes.h"
#include "cases.h"
#include "model/kv_cache.h"
#include "ops/paged_attention.h"
#include "roofs.h"

namespace {

// Pages of one long sequence, in so many layers that none stays in a cache.
struct Pages {
    Pages(DType dtype, int positions) : layout(config(dtype, positions), dtype) {
        const std::vector<float> values = noise(layout.page_bytes(0) / size_of(dtype), 4);
        for (int first = 0; first < positions; first += kPagePositions) {
            memory.emplace_back(layout.page_bytes(0));
            data.push_back(memory.back().data());
            for (std::size_t i = 0; i < values.size(); ++i) {
                const float value = values[i] * static_cast<float>(1 + first % 5) / 5.0f;
                if (dtype == DType::f32) {
                    memory.back().as<float>()[i] = value;
                } else {
                    memory.back().as<Half>()[i] = to_half(value);
                }
            }
        }
    }

    static ModelConfig config(DType dtype, int positions) {
        ModelConfig c;
        c.n_kv_head = kHeads;
        c.head_dim = kHeadDim;
        c.layers.resize(static_cast<std::size_t>(layers(dtype, positions)));
        return c;
    }

    static int layers(DType dtype, int positions) {
        const std::size_t pages = static_cast<std::size_t>(ceil_div(positions, kPagePositions));
        return static_cast<int>(kModelBytes / (pages * kPagePositions * kHidden * 2 * size_of(dtype)));
    }

    double element(int position, std::size_t start, int offset) const {
        const std::byte* at = data[static_cast<std::size_t>(position / kPagePositions)] + start;
        return layout.dtype() == DType::f32 ? to_float(reinterpret_cast<const float*>(at)[offset])
                                            : to_float(reinterpret_cast<const Half*>(at)[offset]);
    }

    PageLayout layout;
    std::vector<Buffer> memory;
    std::vector<std::byte*> data;
};

// Layer 0 of the last row, all heads.
void check_attention(const Pages& pages, const float* q, const float* out, int limit) {
    for (int head = 0; head < kHeads; ++head) {
        std::vector<double> sums(kHeadDim, 0.0);
        double total = 0.0;
        for (int t = 0; t < limit; ++t) {
            const int slot = t % kPagePositions;
            double score = 0.0;
            for (int d = 0; d < kHeadDim; ++d) {
                score +=
                    q[head * kHeadDim + d] * pages.element(t, pages.layout.keys(0, head), PageLayout::key_at(slot, d));
            }
            const double weight = std::exp(score / 8.0);
            total += weight;
            for (int d = 0; d < kHeadDim; ++d) {
                sums[static_cast<std::size_t>(d)] +=
                    weight * pages.element(t, pages.layout.values(0, head), pages.layout.value_at(slot, d));
            }
        }
        for (int d = 0; d < kHeadDim; ++d) {
            expect(out[head * kHeadDim + d], sums[static_cast<std::size_t>(d)] / total, 1e-5, "attention");
        }
    }
}

// `rows` new tokens, of which the last sees `positions`.
void bench_attention(Meter& meter, DType dtype, const std::string& name, int rows, int positions) {
    if (!meter.wants("attention", name_of(dtype))) return;
    const Pages pages(dtype, positions);
    const int layers = Pages::layers(dtype, positions), first = positions - rows;
    const AttentionSequence sequence{0, rows, first, pages.data};
    const auto values = static_cast<std::size_t>(rows) * kHidden;
    const std::vector<float> q = noise(values, 5);
    std::vector<float> out(values);
    const int threads = meter.team.size();
    Buffer scratch(4 * (attention_scratch(kHeadDim) * static_cast<std::size_t>(threads) +
                        split_floats(rows, kHeads, kHeadDim, positions, threads)));
    int next = 0;
    const auto run = [&] {
        const int layer = next++ % layers;
        paged_attention(meter.kernels, meter.team,
                        {{&sequence, 1},
                         kHeads,
                         kHeads,
                         kHeadDim,
                         dtype,
                         pages.layout.keys(layer, 0),
                         pages.layout.values(layer, 0),
                         pages.layout.keys(0, 1),
                         ScoreRule{0.125f},
                         q.data(),
                         kHidden,
                         out.data(),
                         kHidden,
                         {scratch.as<float>(), scratch.size() / 4}});
    };
    run();
    const std::size_t last = values - kHidden;
    check_attention(pages, q.data() + last, out.data() + last, positions);
    const double seen = (first + 1.0 + positions) / 2.0 * rows;  // keys of all queries of a head
    const double bytes = 2.0 * positions * kHidden * static_cast<double>(size_of(dtype));
    meter.measure({"attention", name_of(dtype), name, bytes, 4.0 * seen * kHidden, run});
}

}  // namespace
