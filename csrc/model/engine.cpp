#include "model/engine.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <string>
#include <unordered_set>

#include "base/error.h"
#include "base/xxh64.h"
#include "model/forward.h"
#include "model/session_lock.h"

namespace pygpt {

namespace {

// Rows a step computes together at most: bounds the memory of activations; longer input is cut into several steps.
constexpr int kMaxRows = 256;

std::vector<PageClass> page_classes(const PageLayout& layout, int n_ctx) {
    std::vector<PageClass> out;
    const auto spare = static_cast<std::size_t>(n_ctx / kPagePositions + 1);
    for (std::size_t c = 0; c < layout.n_classes(); ++c)
        out.push_back({std::make_shared<PagePool>(layout.page_bytes(c), spare), layout.window(c)});
    return out;
}

}  // namespace

Engine::Engine(ModelConfig config, Weights weights, const Kernels& kernels, std::shared_ptr<const Threads> threads,
               DType kv)
    : config_(std::move(config)),
      weights_(std::move(weights)),
      kernels_(kernels),
      threads_(std::move(threads)),
      ropes_(config_),
      layout_(config_, kernels_.cache(kv), kernels_.cache(DType::f16)),
      centers_(layout_.format().centered ? KeyCenters(config_, weights_, layout_, kernels_, ropes_) : KeyCenters()),
      page_classes_(page_classes(layout_, config_.n_ctx)) {
    if (!layout_.format().centered) return;
    threads_->run([&](Team& team) {
        feedback_ = KeyFeedback({config_, weights_, kernels_, layout_, centers_, feedback_, ropes_, team});
    });
}

std::shared_ptr<Session> Engine::session(int length, std::span<const PageList> pages) const {
    if (length > config_.n_ctx)
        throw InvalidArgument("the context does not hold " + std::to_string(length) + " tokens");
    return std::shared_ptr<Session>(new Session(shared_from_this(), KvCache(page_classes_, length, pages)));
}

std::shared_ptr<Buffer> Engine::page(std::size_t page_class, std::span<const std::byte> contents) const {
    if (page_class >= page_classes_.size() || contents.size() != layout_.page_bytes(page_class)) {
        throw InvalidArgument(std::to_string(contents.size()) + " bytes are no page of class " +
                              std::to_string(page_class));
    }
    auto page = page_classes_[page_class].pool->take();
    std::memcpy(page->data(), contents.data(), contents.size());
    return page;
}

std::uint64_t Engine::fingerprint() const {
    if (const std::uint64_t known = fingerprint_; known != 0) return known;
    const auto bytes = [](const auto* first, std::size_t n) { return std::as_bytes(std::span(first, n)); };
    std::uint64_t hash = 0;
    for (const PackedTensor& t : tensors()) {
        std::size_t size = size_of(t.dtype);
        for (const auto n : t.shape) size *= static_cast<std::size_t>(n);
        hash = xxh64(bytes(t.name.data(), t.name.size()), hash);
        hash = xxh64(bytes(static_cast<const std::byte*>(t.data), size), hash);
    }
    hash = hash == 0 ? 1 : hash;
    fingerprint_ = hash;  // whoever comes meanwhile computes the same: no lock, which a child process might wait for
    return hash;
}

std::size_t Engine::held_bytes(std::span<const std::shared_ptr<Session>> sessions) {
    std::unordered_set<const void*> seen;
    std::size_t bytes = 0;
    for (const auto& session : sessions) {
        const SessionLock lock(*session);
        session->cache_.visit_pages([&](const void* page, std::size_t size) {
            if (seen.insert(page).second) bytes += size;
        });
    }
    return bytes;
}

void Engine::check(std::span<const SequenceInput> batch) const {
    if (batch.empty()) throw InvalidArgument("the batch is empty");
    for (const SequenceInput& s : batch) {
        if (s.session->engine_.get() != this) throw InvalidArgument("a session belongs to another model");
        if (s.tokens.empty()) throw InvalidArgument("a sequence has no tokens");
        if (s.tentative > std::min(s.tokens.size(), std::size_t{kReturn})) {  // what more would see is given back
            throw InvalidArgument(std::to_string(s.tentative) + " of " + std::to_string(s.tokens.size()) +
                                  " tokens cannot be tentative, and at most " + std::to_string(kReturn));
        }
        if (s.first >= s.tokens.size()) {
            throw InvalidArgument("the first of " + std::to_string(s.tokens.size()) + " tokens whose next is scored " +
                                  "cannot be number " + std::to_string(s.first));
        }
        for (const std::span<const int> tokens : {s.tokens, s.next}) {
            for (const int token : tokens) {
                if (token < 0 || token >= config_.n_vocab) {
                    throw InvalidArgument("token " + std::to_string(token) + " is outside the vocabulary of " +
                                          std::to_string(config_.n_vocab));
                }
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
    return std::make_unique<Workspace>(config_, ropes_, weights_, rows, threads_->count());
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
    Output output;
    float* to;
    std::span<const int> targets;  // of a score
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
        const int position = cache.length() + done_;
        cache.reserve(position, position + n);
        const int first = step.rows();
        for (std::size_t c = 0; c < layout_.n_classes(); ++c) {
            pages_.push_back(cache.pages(c));
            step.sequences[c].push_back({first, n, position, pages_.back()});
        }
        for (int i = done_; i < done_ + n; ++i) {
            step.tokens.push_back(s.tokens[static_cast<std::size_t>(i)]);
            step.positions.push_back(cache.length() + i);
        }
        const Range rows = wanted_rows(s);
        const int begin = std::max(rows.begin, done_), end = std::min(rows.end, done_ + n);
        if (begin >= end) return;
        AttentionSequence read = step.sequences[layout_.class_of(engine_.config().n_layer() - 1)].back();
        read.first_row = static_cast<int>(step.read.size());
        read.n_rows = end - begin;
        read.first_position += begin - done_;
        step.read_sequences.push_back(read);
        for (int i = begin; i < end; ++i) {
            step.read.push_back(first + i - done_);
            float* const to = s.out + std::ptrdiff_t{i - rows.begin} * engine_.output_width(s.output);
            const auto after = static_cast<std::size_t>(i) + 1;
            wanted.push_back({s.output, to, after < s.tokens.size() ? s.tokens.subspan(after, 1) : s.next});
        }
    }

    struct Range {
        int begin, end;
    };
    // The new tokens of a sequence whose rows its output is made of.
    static Range wanted_rows(const SequenceInput& s) {
        const int size = static_cast<int>(s.tokens.size());
        if (s.output == Output::none) return {0, 0};
        if (s.output == Output::score) return {static_cast<int>(s.first), s.next.empty() ? size - 1 : size};
        return {s.output == Output::last ? size - 1 : 0, size};
    }

    const Engine& engine_;
    const PageLayout& layout_;
    std::span<const SequenceInput> batch_;
    std::vector<KvCache*> caches_;
    std::deque<std::vector<std::byte*>> pages_;  // that the step's sequences point to
    std::size_t sequence_ = 0;
    int done_ = 0;
};

// Writes the outputs that rows of ws.normed belong to: of one kind, and unless they are scores one after another in
// memory, by one product.
void write_outputs(const Engine& engine, const Model& model, std::span<const WantedRow> wanted, Workspace& ws) {
    std::vector<Targets> targets;
    for (std::size_t i = 0; i < wanted.size();) {
        const Output output = wanted[i].output;
        float* const to = wanted[i].to;
        const int first = static_cast<int>(i), width = engine.output_width(output);
        targets.clear();
        for (std::ptrdiff_t n = 0; i < wanted.size(); ++i, ++n) {
            const bool follows = output == Output::score || wanted[i].to == to + n * width;
            if (wanted[i].output != output || !follows) break;
            targets.push_back({wanted[i].targets, wanted[i].to});
        }
        const int rows = static_cast<int>(targets.size());
        if (output == Output::score) {
            score(model, first, targets, ws);
        } else if (output == Output::hidden) {
            for (int row = 0; row < rows; ++row) {
                std::copy_n(ws.normed.row(first + row), width, to + static_cast<std::ptrdiff_t>(row) * width);
            }
        } else {
            head(model, first, rows, ws, to);
        }
    }
}

void run_steps(const Engine& engine, const Model& model, Steps& steps, Cancellation& cancellation,
               const std::function<void()>& stop, Workspace& ws) {
    const std::function<void()> look = [&] {
        stop();
        cancellation.look();
    };
    Step step;
    const Tap by_position = [&](TappedRow row) {
        row.row = step.positions[static_cast<std::size_t>(row.row)];
        return (*model.tap)(row);
    };
    Model tapped = model;
    if (model.tap != nullptr) tapped.tap = &by_position;
    std::vector<WantedRow> wanted;
    while (steps.next(step, wanted, cancellation.cancelled())) {
        const Residual residual = run_blocks(tapped, step, ws, look);
        if (wanted.empty()) continue;
        look();
        final_norm(tapped, residual, static_cast<int>(wanted.size()), ws);
        write_outputs(engine, model, wanted, ws);
    }
}

}  // namespace

std::vector<bool> Engine::forward(std::span<const SequenceInput> batch, const std::function<void()>& stop,
                                  const Tap* tap) const {
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
    threads_->run([&](Team& team) {
        run_steps(*this, {config_, weights_, kernels_, layout_, centers_, feedback_, ropes_, team, tap}, steps,
                  cancellation, stop, *ws);
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

void Engine::read_out(const float* states, int n, float* logits, const std::function<void()>& stop) const {
    auto ws = take_workspace(std::min(n, kMaxRows));
    threads_->run([&](Team& team) {
        const Model model{config_, weights_, kernels_, layout_, centers_, feedback_, ropes_, team};
        for (std::ptrdiff_t done = 0; done < n;) {
            stop();
            const int rows = std::min(n - static_cast<int>(done), kMaxRows);
            for (int row = 0; row < rows; ++row)
                std::copy_n(states + (done + row) * config_.n_embd, config_.n_embd, ws->x.row(row));
            final_norm(model, Residual{ws->x}, rows, *ws);
            head(model, 0, rows, *ws, logits + done * config_.n_vocab);
            done += rows;
        }
    });
    if (const std::unique_lock lock(mutex_, std::try_to_lock); lock) idle_.push_back(std::move(ws));
}

}  // namespace pygpt
