#include "model/engine.h"

#include <algorithm>
#include <deque>
#include <functional>
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

Session::Session(std::shared_ptr<const Engine> engine) : engine_(std::move(engine)), cache_(engine_->page_classes_) {}

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
    tentative_ = 0;
}

void Session::keep(int n) {
    const SessionLock lock(*this);
    if (n < 0 || n > tentative_) {
        throw InvalidArgument("the session has " + std::to_string(tentative_) + " tentative tokens, not " +
                              std::to_string(n));
    }
    cache_.commit(cache_.length() + n);
    length_ = cache_.length();
    tentative_ -= n;
}

namespace {

std::vector<PageClass> page_classes(const PageLayout& layout, int n_ctx) {
    std::vector<PageClass> out;
    const auto spare = static_cast<std::size_t>(n_ctx / kPagePositions + 1);
    for (std::size_t c = 0; c < layout.n_classes(); ++c)
        out.push_back({std::make_shared<PagePool>(layout.page_bytes(c), spare), layout.window(c)});
    return out;
}

}  // namespace

Engine::Engine(ModelConfig config, Weights weights, const Kernels& kernels, int threads, DType kv)
    : config_(std::move(config)),
      weights_(std::move(weights)),
      kernels_(kernels),
      threads_(threads),
      ropes_(config_),
      layout_(config_, kv),
      page_classes_(page_classes(layout_, config_.n_ctx)) {}

void Engine::check(std::span<const SequenceInput> batch) const {
    if (batch.empty()) throw InvalidArgument("the batch is empty");
    for (const SequenceInput& s : batch) {
        if (s.session->engine_.get() != this) throw InvalidArgument("a session belongs to another model");
        if (s.tokens.empty()) throw InvalidArgument("a sequence has no tokens");
        if (s.tentative > s.tokens.size()) {
            throw InvalidArgument(std::to_string(s.tentative) + " of " + std::to_string(s.tokens.size()) +
                                  " tokens cannot be tentative");
        }
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
    return std::make_unique<Workspace>(config_, ropes_, weights_, rows, threads_.count());
}

namespace {

// Which sequences of a batch nobody wants any more.
class Cancellation {
public:
    explicit Cancellation(std::span<const SequenceInput> batch) : batch_(batch), cancelled_(batch.size()) {}

    // Looks at the flags. Cancelled: all are set.
    void look() {
        for (std::size_t i = 0; i < batch_.size(); ++i) {
            const std::atomic<bool>* const flag = batch_[i].cancel;
            if (flag != nullptr && *flag) cancelled_[i] = true;
        }
        if (std::all_of(cancelled_.begin(), cancelled_.end(), std::identity()))
            throw Cancelled("the computation was cancelled");
    }
    // What the last look found.
    const std::vector<bool>& cancelled() const { return cancelled_; }

private:
    std::span<const SequenceInput> batch_;
    std::vector<bool> cancelled_;
};

// A row of a step that is part of an output.
struct WantedRow {
    int row;
    Output output;
    float* to;
};

// Cuts a batch, whose pages are reserved, into steps of at most kMaxRows rows, without those that are cancelled by
// then.
class Steps {
public:
    // `caches`: of each sequence.
    Steps(const Engine& engine, const PageLayout& layout, std::span<const SequenceInput> batch,
          std::vector<KvCache*> caches)
        : engine_(engine), layout_(layout), batch_(batch), caches_(std::move(caches)) {}

    // The next step and which of its rows are wanted; false when all is done.
    bool next(Step& step, std::vector<WantedRow>& wanted, const std::vector<bool>& cancelled) {
        step = {};
        step.sequences.resize(layout_.n_classes());
        pages_.clear();
        wanted.clear();
        while (sequence_ < batch_.size() && step.rows() < kMaxRows) {
            const int left = cancelled[sequence_] ? 0 : static_cast<int>(batch_[sequence_].tokens.size()) - done_;
            const int n = std::min(left, kMaxRows - step.rows());
            if (n > 0) add(step, wanted, n);
            done_ += n;
            if (n == left) {
                ++sequence_;
                done_ = 0;
            }
        }
        return step.rows() > 0;
    }

private:
    // The next n tokens of the sequence.
    void add(Step& step, std::vector<WantedRow>& wanted, int n) {
        const SequenceInput& s = batch_[sequence_];
        KvCache& cache = *caches_[sequence_];
        const int position = cache.length() + done_, end = static_cast<int>(s.tokens.size());
        cache.reserve(position, position + n);
        for (std::size_t c = 0; c < layout_.n_classes(); ++c) {
            pages_.push_back(cache.pages(c));
            step.sequences[c].push_back({step.rows(), n, position, pages_.back()});
        }
        for (int i = 0; i < n; ++i) {
            const int at = done_ + i;
            if (s.output == Output::last ? at + 1 == end : s.output != Output::none) {
                const std::ptrdiff_t to = s.output == Output::last ? 0 : at;
                wanted.push_back({step.rows(), s.output, s.out + to * engine_.output_width(s.output)});
            }
            step.tokens.push_back(s.tokens[static_cast<std::size_t>(at)]);
            step.positions.push_back(position + i);
        }
    }

    const Engine& engine_;
    const PageLayout& layout_;
    std::span<const SequenceInput> batch_;
    std::vector<KvCache*> caches_;
    std::deque<std::vector<std::byte*>> pages_;  // that the step's sequences point to
    std::size_t sequence_ = 0;
    int done_ = 0;
};

// Writes what is wanted of the rows of ws.normed, which are used up: logits that lie one after another by one product.
void write_outputs(const Model& model, std::span<const WantedRow> wanted, Workspace& ws) {
    int n = 0;  // logits to be computed, of the first n rows of ws.normed
    float* to = nullptr;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        const float* const from = ws.normed.row(static_cast<std::ptrdiff_t>(i));
        if (wanted[i].output == Output::hidden) {
            std::copy_n(from, model.config.n_embd, wanted[i].to);
            continue;
        }
        if (n > 0 && wanted[i].to != to + static_cast<std::ptrdiff_t>(n) * model.config.n_vocab) {
            head(model, n, ws, to);
            n = 0;
        }
        if (n == 0) to = wanted[i].to;
        if (float* const row = ws.normed.row(n++); row != from) std::copy_n(from, model.config.n_embd, row);
    }
    if (n > 0) head(model, n, ws, to);
}

void run_steps(const Model& model, Steps& steps, Cancellation& cancellation, const std::function<void()>& stop,
               Workspace& ws) {
    const std::function<void()> look = [&] {
        stop();
        cancellation.look();
    };
    Step step;
    std::vector<WantedRow> wanted;
    std::vector<int> rows;
    while (steps.next(step, wanted, cancellation.cancelled())) {
        const Residual residual = run_blocks(model, step, ws, look);
        if (wanted.empty()) continue;
        look();
        rows.clear();
        for (const WantedRow& w : wanted) rows.push_back(w.row);
        final_norm(model, residual, rows, ws);
        write_outputs(model, wanted, ws);
    }
}

}  // namespace

std::vector<bool> Engine::forward(std::span<const SequenceInput> batch, const std::function<void()>& stop) const {
    std::vector<SessionLock> locks;
    for (const SequenceInput& s : batch) locks.emplace_back(*s.session);
    check(batch);
    Cancellation cancellation(batch);
    cancellation.look();
    std::vector<KvCache*> caches;
    std::size_t total = 0;
    for (const SequenceInput& s : batch) {
        caches.push_back(&s.session->cache_);
        s.session->tentative_ = 0;  // what lies behind the length is written over
        total += s.tokens.size();
    }
    auto ws = take_workspace(static_cast<int>(std::min<std::size_t>(total, kMaxRows)));
    Steps steps(*this, layout_, batch, caches);
    threads_.run([&](Team& team) {
        run_steps({config_, weights_, kernels_, layout_, ropes_, team}, steps, cancellation, stop, *ws);
    });
    if (const std::unique_lock lock(mutex_, std::try_to_lock); lock) idle_.push_back(std::move(ws));
    std::vector<bool> cancelled = cancellation.cancelled();
    // Nothing fails from here on.
    for (std::size_t i = 0; i < batch.size(); ++i) {
        if (cancelled[i]) continue;
        caches[i]->commit(caches[i]->length() + static_cast<int>(batch[i].tokens.size() - batch[i].tentative));
        batch[i].session->length_ = caches[i]->length();
        batch[i].session->tentative_ = static_cast<int>(batch[i].tentative);
    }
    return cancelled;
}

}  // namespace pygpt
