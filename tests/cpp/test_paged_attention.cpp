// Attention split over heads and threads.
#include "model/kv_cache.h"
#include "model/kv_store.h"
#include "ops/paged_attention.h"
#include "support.h"

namespace pygpt::test {
namespace {

// Sequences of different lengths in one call, grouped-query heads: every output is what the kernel gives for its own
// query alone, on any number of threads, whether their segments are split over the threads or not.
class Sequences {
public:
    static constexpr int kHeads = 6, kKvHeads = 3, kWidth = 12, kLayer = 1, kContext = 600;

    Sequences(DType dtype, const std::vector<std::pair<int, int>>& past_and_rows)
        : format_(best_kernels().cache(dtype)), layout_(config(), format_) {
        for (const auto& [past, rows] : past_and_rows) {
            std::vector<std::byte*>& pages = pages_.emplace_back();
            for (int p = 0; p * kPagePositions < past + rows; ++p) {
                Buffer& page = memory_.emplace_back(layout_.page_bytes(0));
                pages.push_back(page.data());
                Random random(static_cast<unsigned>(40 + p + past));
                const std::vector<float> x = random.floats(2 * kPagePositions * kKvHeads * kWidth);
                for (int layer = 0; layer < 2; ++layer) {
                    store_rows(layout_, layer, page.data(), 0,
                               {x.data(), x.data() + kKvHeads * kWidth, 2 * kKvHeads * kWidth, kPagePositions});
                }
            }
        }
        for (std::size_t i = 0; i < pages_.size(); ++i) {
            parts_.push_back({total_, past_and_rows[i].second, past_and_rows[i].first, pages_[i]});
            total_ += past_and_rows[i].second;
        }
        q_ = Random(41).floats(total_ * kLdq);
    }

    void check(int threads, bool room_to_split, int window = 0) const {
        const Kernels& kernels = best_kernels();
        Guarded out(total_, kHeads * kWidth, kHeads * kWidth + 9);
        std::vector<float> scratch(attention_scratch(kWidth) * static_cast<std::size_t>(threads) +
                                   (room_to_split ? split_floats(total_, kHeads, kWidth, kContext, threads) : 0));
        const AttentionCall call{kHeads,
                                 kKvHeads,
                                 kWidth,
                                 format_,
                                 layout_.keys(kLayer, 0),
                                 layout_.values(kLayer, 0),
                                 layout_.keys(0, 1),
                                 nullptr,
                                 0,
                                 {kScale, 0.0f, slopes_, sinks_},
                                 q_.data(),
                                 kLdq,
                                 out.row(0),
                                 out.ld(),
                                 scratch};
        with_team(threads, [&](Team& team) {
            AttentionPlan plan;
            plan.make(parts_, {kHeads, kKvHeads, kWidth, window, scratch.size()}, team.size());
            paged_attention(kernels, team, plan, call);
        });
        EXPECT_TRUE(out.intact());
        for (const AttentionSequence& s : parts_) {
            for (int i = 0; i < s.n_rows * kHeads; ++i) {
                const int row = s.first_row + i / kHeads, head = i % kHeads;
                const std::vector<float> expected = alone(kernels, s, row, head, window);
                const float* found = out.row(row) + head * kWidth;
                ASSERT_TRUE(std::equal(found, found + kWidth, expected.begin())) << "row " << row << ", head " << head;
            }
        }
    }

private:
    static constexpr int kLdq = kHeads * kWidth + 4;
    static constexpr float kScale = 0.4f;

    static ModelConfig config() {
        ModelConfig c;
        c.layers.resize(2);
        c.n_kv_head = kKvHeads;
        c.head_dim = kWidth;
        return c;
    }

    std::vector<float> alone(const Kernels& kernels, const AttentionSequence& s, int row, int head, int window) const {
        const int kv_head = head / (kHeads / kKvHeads), limit = s.first_position + row - s.first_row + 1;
        const KeyRange range{window > 0 ? std::max(0, limit - window) : 0, limit};
        const float* query = q_.data() + row * kLdq + head * kWidth;
        std::vector<float> expected(kWidth), scratch(attention_scratch(kWidth));
        float* output = expected.data();
        kernels.cache(format_.dtype)
            .attention({&query, &output, &range, 1, kWidth, kScale, 0.0f, &slopes_[static_cast<std::size_t>(head)],
                        &sinks_[static_cast<std::size_t>(head)], s.pages.data(), layout_.keys(kLayer, kv_head),
                        layout_.values(kLayer, kv_head), nullptr, 0, -1, scratch.data()});
        return expected;
    }

    const CacheFormat& format_;
    PageLayout layout_;
    int total_ = 0;
    std::vector<Buffer> memory_;
    std::vector<std::vector<std::byte*>> pages_;
    std::vector<AttentionSequence> parts_;
    std::vector<float> q_;
    const std::vector<float> slopes_{0.5f, 0.1f, 0.02f, 0.3f, 0.0f, 1.0f}, sinks_{1.0f, -3.0f, 0.0f, 2.0f, -1.0f, 5.0f};
};

TEST(PagedAttention, SplitOverHeadsAndThreadsGivesTheSame) {
    for (const DType dtype : {DType::f32, DType::f16, DType::i8}) {
        const Sequences prompts(dtype, {{0, 70}, {63, 1}, {130, 9}, {5, 3}});
        for (const int threads : {1, 2, 5}) prompts.check(threads, true);
        const Sequences one(dtype, {{550, 1}}), two(dtype, {{300, 2}, {599, 1}});
        for (const int threads : {1, 2, 5}) {
            for (const bool room : {false, true}) {
                for (const int window : {0, 1, 100, 300}) {
                    one.check(threads, room, window);
                    two.check(threads, room, window);
                }
            }
        }
    }
}

}  // namespace
}  // namespace pygpt::test
