#include "model/kv_cache.h"

#include <cstring>

namespace pygpt {

PageLayout::PageLayout(const ModelConfig& config, DType dtype)
    : dtype_(dtype), heads_(config.n_kv_head), head_dim_(config.head_dim) {
    const std::size_t row = kPagePositions * size_of(dtype);
    keys_bytes_ = row * static_cast<std::size_t>(head_dim_);
    both_ = keys_bytes_ + row * static_cast<std::size_t>(padded_head(head_dim_));
    page_bytes_ = both_ * static_cast<std::size_t>(heads_) * config.layers.size();
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

void KvCache::reserve(int n) {
    const int first = length_ / kPagePositions;
    const int end = ceil_div(length_ + n, kPagePositions);
    for (int i = first; i < end; ++i) {
        const auto at = static_cast<std::size_t>(i);
        if (at == pages_.size()) {
            pages_.push_back(pool_->take());
        } else if (pages_[at].use_count() > 1) {
            auto own = pool_->take();
            std::memcpy(own->data(), pages_[at]->data(), own->size());
            pages_[at] = std::move(own);
        } else {
            // Whoever shared the page until now had finished reading it.
            std::atomic_thread_fence(std::memory_order_acquire);
        }
    }
}

void KvCache::truncate(int length) {
    length_ = length;
    pages_.resize(static_cast<std::size_t>(ceil_div(length, kPagePositions)));
}

}  // namespace pygpt
