#include "model/engine.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "base/error.h"
#include "model/forward.h"

namespace pygpt {

namespace {

// Rows a step computes together at most: bounds the memory of activations; longer input is cut into several steps.
constexpr int kMaxRows = 256;

}  // namespace

// Marks a session as in use, or throws.
class SessionLock {
public:
    explicit SessionLock(const Session& session) : session_(&session) {
        if (session.busy_.exchange(true))
            throw InvalidArgument("a session is in use by another call, or twice in this batch");
    }
    SessionLock(SessionLock&& other) noexcept : session_(std::exchange(other.session_, nullptr)) {}
    SessionLock(const SessionLock&) = delete;
    SessionLock& operator=(const SessionLock&) = delete;
    SessionLock& operator=(SessionLock&&) = delete;
    ~SessionLock() {
        if (session_ != nullptr) session_->busy_ = false;
    }

private:
    const Session* session_;
};

Session::Session(std::shared_ptr<const Engine> engine) : engine_(std::move(engine)), cache_(engine_->pool_) {}

std::shared_ptr<Session> Session::fork() const {
    const SessionLock lock(*this);
    return std::shared_ptr<Session>(new Session(*this));
}

void Session::truncate(int length) {
    const SessionLock lock(*this);
    if (length < 0 || length > cache_.length()) {
        throw InvalidArgument("length must be between 0 and " + std::to_string(cache_.length()) + ", not " +
                              std::to_string(length));
    }
    cache_.truncate(length);
    length_ = length;
}

Engine::Engine(ModelConfig config, Weights weights, const Kernels& kernels, int threads, DType kv)
    : config_(std::move(config)),
      weights_(std::move(weights)),
      kernels_(kernels),
      threads_(threads),
      ropes_(config_),
      layout_(config_, kv),
      pool_(std::make_shared<PagePool>(layout_.page_bytes(),
                                       static_cast<std::size_t>(config_.n_ctx / kPagePositions + 1))) {}

void Engine::check(std::span<const SequenceInput> batch) const {
    if (batch.empty()) throw InvalidArgument("the batch is empty");
    for (const SequenceInput& s : batch) {
        if (s.session->engine_.get() != this) throw InvalidArgument("a session belongs to another model");
        if (s.tokens.empty()) throw InvalidArgument("a sequence has no tokens");
        for (const int token : s.tokens) {
            if (token < 0 || token >= config_.n_vocab) {
                throw InvalidArgument("token " + std::to_string(token) + " is outside the vocabulary of " +
                                      std::to_string(config_.n_vocab));
            }
        }
        const auto room = static_cast<std::size_t>(config_.n_ctx - s.session->length());
        if (s.tokens.size() > room) {
            throw ContextOverflow(std::to_string(s.session->length()) + " tokens and " +
                                  std::to_string(s.tokens.size()) + " more exceed the context of " +
                                  std::to_string(config_.n_ctx));
        }
    }
}

std::unique_ptr<Workspace> Engine::take_workspace(int rows) const {
    if (const std::unique_lock lock(mutex_, std::try_to_lock); lock) {
        const auto fits = std::find_if(idle_.begin(), idle_.end(), [&](const auto& w) { return w->rows() >= rows; });
        if (fits != idle_.end()) {
            auto ws = std::move(*fits);
            idle_.erase(fits);
            return ws;
        }
        idle_.clear();  // all too small
    }
    return std::make_unique<Workspace>(config_, ropes_, weights_.dtype(), rows, threads_.count());
}

namespace {

// Cuts a batch, whose pages are reserved, into steps of at most kMaxRows rows.
class Steps {
public:
    explicit Steps(std::span<const SequenceInput> batch, std::vector<std::vector<std::byte*>> pages,
                   std::vector<int> starts)
        : batch_(batch), pages_(std::move(pages)), starts_(std::move(starts)) {}

    // The next step, and which of its rows end a sequence; false when all is done.
    bool next(Step& step, std::vector<int>& last_rows) {
        step = {};
        last_rows.clear();
        while (sequence_ < batch_.size() && step.rows() < kMaxRows) {
            const std::span<const int> tokens = batch_[sequence_].tokens;
            const int left = static_cast<int>(tokens.size()) - done_;
            const int n = std::min(left, kMaxRows - step.rows());
            const int position = starts_[sequence_] + done_;
            step.sequences.push_back({step.rows(), n, position, pages_[sequence_]});
            for (int i = 0; i < n; ++i) {
                step.tokens.push_back(tokens[static_cast<std::size_t>(done_ + i)]);
                step.positions.push_back(position + i);
            }
            done_ += n;
            if (n == left) {
                last_rows.push_back(step.rows() - 1);
                ++sequence_;
                done_ = 0;
            }
        }
        return step.rows() > 0;
    }

private:
    std::span<const SequenceInput> batch_;
    std::vector<std::vector<std::byte*>> pages_;
    std::vector<int> starts_;
    std::size_t sequence_ = 0;
    int done_ = 0;
};

void run_steps(const Model& model, Steps& steps, Output output, const std::function<void()>& stop, Workspace& ws,
               float* out) {
    Step step;
    std::vector<int> rows;
    while (steps.next(step, rows)) {
        const Residual residual = run_blocks(model, step, ws, stop);
        if (output != Output::last) {
            rows.resize(static_cast<std::size_t>(step.rows()));
            std::iota(rows.begin(), rows.end(), 0);
        }
        if (rows.empty()) continue;
        stop();
        final_norm(model, residual, rows, ws);
        const int n = static_cast<int>(rows.size());
        if (output == Output::hidden) {
            for (int i = 0; i < n; ++i) out = std::copy_n(ws.normed.row(i), model.config.n_embd, out);
        } else {
            head(model, n, ws, out);
            out += static_cast<std::ptrdiff_t>(n) * model.config.n_vocab;
        }
    }
}

}  // namespace

void Engine::forward(std::span<const SequenceInput> batch, Output output, const std::function<void()>& stop,
                     float* out) const {
    std::vector<SessionLock> locks;
    for (const SequenceInput& s : batch) locks.emplace_back(*s.session);
    check(batch);
    std::vector<std::vector<std::byte*>> pages;
    std::vector<int> starts;
    std::size_t total = 0;
    for (const SequenceInput& s : batch) {
        KvCache& cache = s.session->cache_;
        const int n = static_cast<int>(s.tokens.size());
        cache.reserve(n);
        std::vector<std::byte*> of_sequence;
        for (int i = 0; i * kPagePositions < cache.length() + n; ++i) of_sequence.push_back(cache.page(i));
        pages.push_back(std::move(of_sequence));
        starts.push_back(cache.length());
        total += s.tokens.size();
    }
    auto ws = take_workspace(static_cast<int>(std::min<std::size_t>(total, kMaxRows)));
    Steps steps(batch, std::move(pages), std::move(starts));
    threads_.run([&](Team& team) {
        run_steps({config_, weights_, kernels_, layout_, ropes_, team}, steps, output, stop, *ws, out);
    });
    if (const std::unique_lock lock(mutex_, std::try_to_lock); lock) idle_.push_back(std::move(ws));
    // Nothing fails from here on.
    for (const SequenceInput& s : batch) {
        s.session->cache_.commit(static_cast<int>(s.tokens.size()));
        s.session->length_ = s.session->cache_.length();
    }
}

}  // namespace pygpt
