// Keys and values of sequences, in pages of 64 positions from one pool.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "kernels/cache_format.h"
#include "model/config.h"

namespace pygpt {

// A token that a session was truncated behind, by up to so many from its greatest length, can be followed by others:
// the windows of so many lengths are kept.
constexpr int kReturn = 256;

// The first page of a class that a sequence of `length` positions still holds.
constexpr int first_held(int length, int window) {
    return window == 0 ? 0 : std::max(0, length - kReturn - window + 1) / kPagePositions;
}

// Where a page keeps what. Layers whose tokens see equally far make up a class, with pages of its own: [layer of the
// class][kv_head] of keys, then values, as the layer's format has them.
class PageLayout {
public:
    // All layers in `format`; but where that rounds keys less their centers, in `precise` a first layer whose keys have
    // a bias that turns: what turns too fast for a center (see KeyCenters) is large there, in Qwen2.5 fifty times what
    // tokens add.
    PageLayout(const ModelConfig& config, const CacheFormat& format, const CacheFormat& precise);
    PageLayout(const ModelConfig& config, const CacheFormat& format) : PageLayout(config, format, format) {}

    int n_layers() const { return static_cast<int>(places_.size()); }
    std::size_t n_classes() const { return windows_.size(); }
    std::size_t class_of(int layer) const { return places_[static_cast<std::size_t>(layer)].page_class; }
    // How many positions a token of the class sees, itself included; 0: all of the context.
    int window(std::size_t page_class) const { return windows_[page_class]; }
    std::size_t page_bytes(std::size_t page_class) const { return bytes_[page_class]; }

    std::size_t keys(int layer, int head) const {
        return places_[static_cast<std::size_t>(layer)].first + static_cast<std::size_t>(head) * head_bytes(layer);
    }
    std::size_t values(int layer, int head) const { return keys(layer, head) + head_bytes(layer) / 2; }
    // From one head to the next.
    std::size_t head_bytes(int layer) const { return 2 * format(layer).head_bytes(head_dim_); }
    // What a page of each class takes.
    std::size_t bytes() const;
    // What a sequence of this length holds once all its windows are behind it.
    std::size_t bytes_at(int length) const;
    const CacheFormat& format() const { return format_; }
    const CacheFormat& format(int layer) const { return *places_[static_cast<std::size_t>(layer)].format; }
    int heads() const { return heads_; }  // of keys and values
    int head_dim() const { return head_dim_; }

private:
    struct Place {
        std::size_t page_class, first;  // of a layer, and the first byte of it in a page
        const CacheFormat* format;
    };

    const CacheFormat& format_;
    int heads_;
    int head_dim_;
    std::vector<Place> places_;       // of each layer
    std::vector<int> windows_;        // of each class
    std::vector<std::size_t> bytes_;  // of each class
};

// Hands out pages and takes them back; keeps up to `spare` unused ones. Safe from any thread. Nobody waits for the
// lock: in a child process after fork() it may be held for ever, and a page can be allocated or freed instead.
class PagePool : public std::enable_shared_from_this<PagePool> {
public:
    PagePool(std::size_t page_bytes, std::size_t spare) : page_bytes_(page_bytes), spare_(spare) {
        free_.reserve(spare);  // whoever gives a page back takes no memory
    }

    std::shared_ptr<Buffer> take();  // contents: finite numbers, otherwise arbitrary
    std::size_t page_bytes() const { return page_bytes_; }

private:
    const std::size_t page_bytes_;
    const std::size_t spare_;
    std::mutex mutex_;
    std::vector<std::unique_ptr<Buffer>> free_;
};

// What the pages of a class have in common.
struct PageClass {
    std::shared_ptr<PagePool> pool;
    int window;  // see PageLayout
};

// Those of one class by index; null: went back to the pool.
using PageList = std::vector<std::shared_ptr<Buffer>>;

// The pages of one sequence. Pages are shared between forks as long as nobody writes to them. Those that lie before the
// window of every later position go back to the pool.
class KvCache {
public:
    explicit KvCache(std::span<const PageClass> classes);
    // A cache of this length with its pages of each class, as shared_pages() of another one. InvalidArgument unless
    // they are as many and as large as they must be, and what a token at `length` sees is among them.
    KvCache(std::span<const PageClass> classes, int length, std::span<const PageList> pages);

    int length() const { return length_; }

    // Makes the positions begin ... end - 1 writable, length() <= begin: new pages, and own copies of shared ones. What
    // was written from length() on and no position from `begin` on will see goes back.
    void reserve(int begin, int end);
    // The sequence now has this length, up to which all is written.
    void commit(int length);
    // InvalidArgument if what a token at `length` sees is not there any more: see kReturn.
    void truncate(int length);
    KvCache fork() const { return *this; }

    // Calls visit(page, bytes) for each page that it holds.
    template <class F>
    void visit_pages(F visit) const {
        for (const Pages& pages : classes_) {
            for (const auto& page : pages.list) {
                if (page != nullptr) visit(static_cast<const void*>(page->data()), pages.of.pool->page_bytes());
            }
        }
    }

    // Pages of a class by index, those that went back as null.
    std::vector<std::byte*> pages(std::size_t page_class) const;
    // The same: as long as somebody else holds them, nobody writes to them.
    const PageList& shared_pages(std::size_t page_class) const { return classes_[page_class].list; }

private:
    struct Pages {
        PageClass of;
        PageList list;

        bool holds(int begin, int end) const;
        // Whether what a token at this length sees is there.
        bool can_go_on(int length) const;
        void reserve(int begin, int end);
        void release(int first_page, int position);
    };

    std::vector<Pages> classes_;
    int length_ = 0;
};

}  // namespace pygpt
