// Keys and values of sequences, in pages of 64 positions from one pool.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "base/buffer.h"
#include "base/dtype.h"
#include "kernels/attention.h"
#include "model/config.h"

namespace pygpt {

// Where a page keeps what: [layer][kv_head] of keys [head_dim][64], then values [64][padded_head(head_dim)].
class PageLayout {
public:
    PageLayout(const ModelConfig& config, DType dtype);

    std::size_t keys(int layer, int head) const { return (static_cast<std::size_t>(layer * heads_ + head)) * both_; }
    std::size_t values(int layer, int head) const { return keys(layer, head) + keys_bytes_; }
    std::size_t page_bytes() const { return page_bytes_; }
    DType dtype() const { return dtype_; }
    int heads() const { return heads_; }  // of keys and values
    int head_dim() const { return head_dim_; }

    // Element offsets of position `slot` of a page, dimension d.
    static int key_at(int slot, int d) { return d * kPagePositions + slot; }
    int value_at(int slot, int d) const { return slot * padded_head(head_dim_) + d; }

private:
    DType dtype_;
    int heads_;
    int head_dim_;
    std::size_t keys_bytes_;
    std::size_t both_;
    std::size_t page_bytes_;
};

// Hands out pages and takes them back; keeps up to `spare` unused ones. Safe from any thread. Nobody waits for the
// lock: in a child process after fork() it may be held for ever, and a page can be allocated or freed instead.
class PagePool : public std::enable_shared_from_this<PagePool> {
public:
    PagePool(std::size_t page_bytes, std::size_t spare) : page_bytes_(page_bytes), spare_(spare) {
        free_.reserve(spare);  // whoever gives a page back takes no memory
    }

    std::shared_ptr<Buffer> take();  // contents: finite numbers, otherwise arbitrary

private:
    const std::size_t page_bytes_;
    const std::size_t spare_;
    std::mutex mutex_;
    std::vector<std::unique_ptr<Buffer>> free_;
};

// The pages of one sequence. Pages are shared between forks as long as nobody writes to them.
class KvCache {
public:
    explicit KvCache(std::shared_ptr<PagePool> pool) : pool_(std::move(pool)) {}

    int length() const { return length_; }

    // Makes the positions length() ... length() + n - 1 writable: new pages, and own copies of shared ones.
    void reserve(int n);
    // Those positions are now part of the sequence.
    void commit(int n) { length_ += n; }
    void truncate(int length);
    KvCache fork() const { return *this; }

    std::byte* page(int index) const { return pages_[static_cast<std::size_t>(index)]->data(); }

private:
    std::shared_ptr<PagePool> pool_;
    std::vector<std::shared_ptr<Buffer>> pages_;
    int length_ = 0;
};

}  // namespace pygpt
