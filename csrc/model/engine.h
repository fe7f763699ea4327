// Engine: an immutable model that runs steps for any number of sequences, from any number of threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "kernels/table.h"
#include "model/config.h"
#include "model/key_centers.h"
#include "model/key_feedback.h"
#include "model/kv_cache.h"
#include "model/ropes.h"
#include "model/tap.h"
#include "model/weights.h"
#include "model/workspace.h"
#include "threads/parallel.h"

namespace pygpt {

class Engine;

// The cache of one sequence, used by one caller at a time.
class Session {
public:
    explicit Session(std::shared_ptr<const Engine> engine);

    // From any thread, also while a step runs.
    int length() const { return length_; }
    std::shared_ptr<Session> fork() const;
    // Forgets the positions from `length` on. InvalidArgument unless 0 <= length <= length(), and where a token after
    // them would see what the cache does not hold any more: see KvCache.
    void truncate(int length);
    // Takes in the next n of the tokens that the last step computed as tentative ones. InvalidArgument: there are
    // fewer, because there was no such step, or the session was truncated or part of another step since.
    void keep(int n);

    // Of each class. What lies behind the length in the last ones is arbitrary.
    std::vector<PageList> pages() const;
    // Makes what lies behind the length zeros.
    void clear_rest();

private:
    friend class Engine;
    friend class SessionLock;
    Session(const Session& other) : Session(other.engine_, other.cache_.fork()) {}
    Session(std::shared_ptr<const Engine> engine, KvCache cache)
        : engine_(std::move(engine)), cache_(std::move(cache)), length_(cache_.length()) {}

    std::shared_ptr<const Engine> engine_;
    KvCache cache_;  // of whoever holds the SessionLock
    std::atomic<int> length_{0};
    int tentative_ = 0;  // tokens behind the length whose keys and values are there
    mutable std::atomic<bool> busy_{false};
};

enum class Output : std::uint8_t {
    none,    // nothing: only the session grows
    last,    // logits of the last new token
    all,     // logits of every new token
    hidden,  // states after the final norm of every new token
    score,   // see SequenceInput::first and next, and Targets
};

struct SequenceInput {
    Session* session;
    std::span<const int> tokens;
    Output output;
    float* out = nullptr;                       // output_rows() x output_width() floats
    const std::atomic<bool>* cancel = nullptr;  // once it is set, nobody wants this sequence's results
    std::size_t tentative = 0;  // so many of the last tokens, at most kReturn, join the session by Session::keep() only
    // Scores are those of the new tokens after the one numbered `first`, then of the tokens that may follow the last.
    std::size_t first = 0;
    std::span<const int> next = {};
};

inline std::size_t output_rows(const SequenceInput& s) {
    if (s.output == Output::none) return 0;
    if (s.output == Output::last) return 1;
    return s.output == Output::score ? s.tokens.size() - 1 - s.first + s.next.size() : s.tokens.size();
}

class Engine : public std::enable_shared_from_this<Engine> {
public:
    // `threads`: those that packed the weights best read them, too.
    Engine(ModelConfig config, Weights weights, const Kernels& kernels, std::shared_ptr<const Threads> threads,
           DType kv);

    const ModelConfig& config() const { return config_; }
    const Kernels& kernels() const { return kernels_; }
    const Threads& threads() const { return *threads_; }
    std::size_t weight_bytes() const { return weights_.bytes(config_); }
    // They last as long as the engine.
    std::vector<PackedTensor> tensors() const { return packed_tensors(config_, weights_); }
    // In layers with a window, a token takes it only while it is seen.
    std::size_t kv_bytes_per_token() const { return layout_.bytes() / kPagePositions; }

    // Memory of the keys and values of a sequence of this length: see PageLayout::bytes_at.
    std::size_t cache_bytes(int length) const { return layout_.bytes_at(length); }
    // Memory of all keys and values that these sessions hold; what they share counts once. InvalidArgument: one is in
    // use.
    static std::size_t held_bytes(std::span<const std::shared_ptr<Session>> sessions);

    std::shared_ptr<Session> session() const { return std::make_shared<Session>(shared_from_this()); }
    // A session that holds `length` tokens, with pages that were another's in this process or an equal one. They are as
    // the format of the cache has them, the same on every instruction set. InvalidArgument: see KvCache.
    std::shared_ptr<Session> session(int length, std::span<const PageList> pages) const;
    // A page of a class with these contents. InvalidArgument: no such class, or not as many bytes.
    std::shared_ptr<Buffer> page(std::size_t page_class, std::span<const std::byte> contents) const;
    const CacheFormat& cache_format() const { return layout_.format(); }
    // Of all packed weights, in the order and with the names of tensors(). Computed once.
    std::uint64_t fingerprint() const;

    // Throws what forward() would for these arguments.
    void check(std::span<const SequenceInput> batch) const;

    // Floats in a row of a sequence's output.
    int output_width(Output output) const {
        return output == Output::score ? kScoreWidth : output == Output::hidden ? config_.n_embd : config_.n_vocab;
    }

    // Appends each sequence's tokens to its session and writes its output. Scores, and logits that are to lie one after
    // another in memory, cost one product. Returns which sequences were cancelled before the call ended: their sessions
    // are as they were, their outputs arbitrary, and the others' as if they had been alone. `stop` is called before
    // each layer and may throw; all sessions are then as they were. Cancelled: within a layer, once all sequences are.
    // InvalidArgument: no sequence or no tokens, `first` is none of them, a token outside the vocabulary, a session
    // twice, of another engine or in use, more tentative tokens than there are. ContextOverflow. `tap`: sees all of it,
    // by position; only for one sequence, with Output::all.
    std::vector<bool> forward(std::span<const SequenceInput> batch, const std::function<void()>& stop,
                              const Tap* tap = nullptr) const;

    // logits (n, n_vocab) of states (n, n_embd) as the last block leaves them: what forward() makes of its own. `stop`
    // as there.
    void read_out(const float* states, int n, float* logits, const std::function<void()>& stop) const;

private:
    std::unique_ptr<Workspace> take_workspace(int rows) const;

    const ModelConfig config_;
    const Weights weights_;
    const Kernels& kernels_;
    const std::shared_ptr<const Threads> threads_;
    const DistinctRopes ropes_;
    const PageLayout layout_;
    const KeyCenters centers_;
    KeyFeedback feedback_;
    const std::vector<PageClass> page_classes_;
    // Workspaces not in use by a step. Nobody waits for the lock: in a child process after fork() it may be held for
    // ever, and a workspace more or less does no harm.
    mutable std::mutex mutex_;
    mutable std::vector<std::unique_ptr<Workspace>> idle_;
    mutable std::atomic<std::uint64_t> fingerprint_{0};  // 0: not computed yet

    friend class Session;
};

}  // namespace pygpt
