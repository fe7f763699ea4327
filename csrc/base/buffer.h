// Owned memory, aligned to cache lines and zeroed; large buffers ask for huge pages.
#pragma once

#include <cstddef>
#include <utility>

namespace pygpt {

class Buffer {
public:
    Buffer() = default;
    // `bytes` zero bytes; throws std::bad_alloc, or OutOfMemory for large ones, before any of them is used.
    explicit Buffer(std::size_t bytes);
    Buffer(Buffer&& other) noexcept { swap(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        Buffer(std::move(other)).swap(*this);
        return *this;
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer();

    std::byte* data() const { return data_; }
    std::size_t size() const { return size_; }
    template <class T>
    T* as() const {
        return reinterpret_cast<T*>(data_);
    }

private:
    void swap(Buffer& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(mapping_, other.mapping_);
        std::swap(mapped_, other.mapped_);
    }

    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    void* mapping_ = nullptr;  // what was mapped from the operating system; null: the heap's
    std::size_t mapped_ = 0;
};

}  // namespace pygpt
