#include "model/kv_cache.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>

#include "base/error.h"

namespace pygpt {

PageLayout::PageLayout(const ModelConfig& config, const CacheFormat& format, const CacheFormat& precise)
    : format_(format), heads_(config.n_kv_head), head_dim_(config.head_dim) {
    const bool biased = format.centered && config.keys_keep_bias();
    for (const LayerConfig& layer : config.layers) {
        const int wanted = layer.window.value_or(0), window = wanted < config.n_ctx ? wanted : 0;
        const auto found = std::find(windows_.begin(), windows_.end(), window);
        const auto page_class = static_cast<std::size_t>(found - windows_.begin());
        if (found == windows_.end()) {
            windows_.push_back(window);
            bytes_.push_back(0);
        }
        const bool first = places_.empty();
        places_.push_back({page_class, bytes_[page_class], first && biased && layer.rope ? &precise : &format});
        bytes_[page_class] += static_cast<std::size_t>(heads_) * head_bytes(n_layers() - 1);
    }
}

std::size_t PageLayout::bytes() const { return std::accumulate(bytes_.begin(), bytes_.end(), std::size_t{0}); }

std::size_t PageLayout::bytes_at(int length) const {
    std::size_t bytes = 0;
    for (std::size_t c = 0; c < n_classes(); ++c) {
        const int pages = ceil_div(length, kPagePositions) - first_held(length, window(c));
        bytes += static_cast<std::size_t>(pages) * page_bytes(c);
    }
    return bytes;
}

std::shared_ptr<Buffer> PagePool::take() {
    std::unique_ptr<Buffer> page;
    if (const std::unique_lock lock(mutex_, std::try_to_lock); lock && !free_.empty()) {
        page = std::move(free_.back());
        free_.pop_back();
    }
    if (page == nullptr) page = std::make_unique<Buffer>(page_bytes_);
    const auto give_back = [pool = shared_from_this()](Buffer* p) {
        std::unique_ptr<Buffer> owned(p);
        const std::unique_lock lock(pool->mutex_, std::try_to_lock);
        if (lock && pool->free_.size() < pool->spare_) pool->free_.push_back(std::move(owned));
    };
    return {page.release(), give_back};
}

// Whether the pages of these positions are there.
bool KvCache::Pages::holds(int begin, int end) const {
    for (int i = begin / kPagePositions; i < ceil_div(end, kPagePositions); ++i) {
        if (list[static_cast<std::size_t>(i)] == nullptr) return false;
    }
    return true;
}

bool KvCache::Pages::can_go_on(int length) const {
    return holds(of.window == 0 ? 0 : std::max(0, length + 1 - of.window), length);
}

void KvCache::Pages::reserve(int begin, int end) {
    for (int i = begin / kPagePositions; i < ceil_div(end, kPagePositions); ++i) {
        const auto at = static_cast<std::size_t>(i);
        if (at == list.size()) list.emplace_back();
        std::shared_ptr<Buffer>& page = list[at];
        if (page == nullptr) {
            page = of.pool->take();
        } else if (page.use_count() > 1) {
            auto own = of.pool->take();
            std::memcpy(own->data(), page->data(), own->size());
            page = std::move(own);
        } else {
            // Whoever shared the page until now had finished reading it.
            std::atomic_thread_fence(std::memory_order_acquire);
        }
    }
}

// Gives back the pages from first_page on that no position sees from kReturn before `position` on.
void KvCache::Pages::release(int first_page, int position) {
    const int end = first_held(position, of.window);
    for (int i = first_page; i < end; ++i) list[static_cast<std::size_t>(i)].reset();
}

KvCache::KvCache(std::span<const PageClass> classes) {
    for (const PageClass& c : classes) classes_.push_back({c, {}});
}

KvCache::KvCache(std::span<const PageClass> classes, int length, std::span<const PageList> pages) : KvCache(classes) {
    if (length < 0) throw InvalidArgument("a length must not be negative: " + std::to_string(length));
    bool fits = pages.size() == classes_.size();
    for (std::size_t c = 0; fits && c < classes_.size(); ++c) {
        const std::size_t bytes = classes_[c].of.pool->page_bytes();
        fits = pages[c].size() == static_cast<std::size_t>(ceil_div(length, kPagePositions)) &&
               std::all_of(pages[c].begin(), pages[c].end(), [&](const auto& p) { return !p || p->size() == bytes; });
        if (!fits) break;
        classes_[c].list = pages[c];
        fits = classes_[c].can_go_on(length);
    }
    if (!fits) throw InvalidArgument("these are not the pages of a sequence of " + std::to_string(length) + " tokens");
    length_ = length;
}

void KvCache::reserve(int begin, int end) {
    for (Pages& pages : classes_) {
        pages.release(ceil_div(length_, kPagePositions), begin);
        pages.reserve(begin, end);
    }
}

void KvCache::commit(int length) {
    length_ = length;
    for (Pages& pages : classes_) pages.release(0, length);
}

void KvCache::truncate(int length) {
    for (const Pages& pages : classes_) {
        if (!pages.can_go_on(length)) {
            throw InvalidArgument("a session of a model whose layers see " + std::to_string(pages.of.window) +
                                  " tokens can be truncated to 0 or by up to " + std::to_string(kReturn) +
                                  " tokens from its greatest length, not to " + std::to_string(length));
        }
    }
    length_ = length;
    for (Pages& pages : classes_) pages.list.resize(static_cast<std::size_t>(ceil_div(length, kPagePositions)));
}

std::vector<std::byte*> KvCache::pages(std::size_t page_class) const {
    std::vector<std::byte*> out;
    for (const auto& page : classes_[page_class].list) out.push_back(page == nullptr ? nullptr : page->data());
    return out;
}

}  // namespace pygpt
