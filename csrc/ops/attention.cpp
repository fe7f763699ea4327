#include "ops/attention.h"

#include <algorithm>
#include <vector>

#include "threads/parallel.h"

namespace pygpt {

namespace {

// Queries of one sequence that share a head of keys and values: (token, query head) pairs first ... first + count - 1,
// token by token.
struct Task {
    const AttentionSequence* sequence;
    int kv_head;
    int first;
    int count;
};

// Later tokens see more keys: their tasks come first, so that the threads finish together.
std::vector<Task> plan(const AttentionCall& call) {
    std::vector<Task> tasks;
    const int group = call.n_head / call.n_kv_head;
    for (const AttentionSequence& s : call.sequences) {
        const int queries = s.n_rows * group;
        for (int end = queries; end > 0; end -= kMaxAttentionQueries) {
            const int first = std::max(0, end - kMaxAttentionQueries);
            for (int head = 0; head < call.n_kv_head; ++head) tasks.push_back({&s, head, first, end - first});
        }
    }
    return tasks;
}

void run(const Kernels& kernels, const AttentionCall& call, const Task& task, float* scratch) {
    const AttentionSequence& s = *task.sequence;
    const int group = call.n_head / call.n_kv_head;
    const float* queries[kMaxAttentionQueries];
    float* outputs[kMaxAttentionQueries];
    int limits[kMaxAttentionQueries];
    for (int i = 0; i < task.count; ++i) {
        const int token = (task.first + i) / group;
        const std::ptrdiff_t row = s.first_row + token;
        const std::ptrdiff_t head = task.kv_head * group + (task.first + i) % group;
        queries[i] = call.q + row * call.ldq + head * call.head_dim;
        outputs[i] = call.out + row * call.ldout + head * call.head_dim;
        limits[i] = s.first_position + token + 1;
    }
    const int pages = (limits[task.count - 1] + kPagePositions - 1) / kPagePositions;
    std::vector<const void*> keys(static_cast<std::size_t>(pages)), values(static_cast<std::size_t>(pages));
    const std::size_t head = static_cast<std::size_t>(task.kv_head) * call.head_bytes;
    for (std::size_t i = 0; i < keys.size(); ++i) {
        keys[i] = s.pages[i] + call.keys + head;
        values[i] = s.pages[i] + call.values + head;
    }
    const AttentionArgs args{queries,    outputs,     limits,        task.count, call.head_dim,
                             call.scale, keys.data(), values.data(), scratch};
    (call.kv == DType::f32 ? kernels.attention_f32 : kernels.attention_f16)(args);
}

}  // namespace

void attention(const Kernels& kernels, Team& team, const AttentionCall& call) {
    const std::vector<Task> tasks = plan(call);
    const std::size_t scratch = attention_scratch(call.head_dim);
    team.parallel_for(static_cast<int>(tasks.size()), [&](int i, int thread) {
        run(kernels, call, tasks[static_cast<std::size_t>(i)],
            call.scratch + static_cast<std::size_t>(thread) * scratch);
    });
}

}  // namespace pygpt
