#include "failing_memory.h"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>

// What the linker calls the functions that --wrap puts these in place of.
extern "C" {
void* __real_mmap(void* at, std::size_t bytes, int protection, int flags, int file, off_t offset);
int __real_munmap(void* at, std::size_t bytes);
void* __real_aligned_alloc(std::size_t alignment, std::size_t bytes);
void* __wrap_mmap(void* at, std::size_t bytes, int protection, int flags, int file, off_t offset);
int __wrap_munmap(void* at, std::size_t bytes);
void* __wrap_aligned_alloc(std::size_t alignment, std::size_t bytes);
}
#endif

namespace {

std::atomic<long> left{0};  // requests until the one that fails; 0: none does
std::atomic<bool> reached{false};
std::atomic<long> live{0};

bool fails() {
    if (left.load(std::memory_order_relaxed) <= 0 || left.fetch_sub(1, std::memory_order_relaxed) != 1) return false;
    reached = true;
    return true;
}

void* granted(void* p) {
    if (p != nullptr) live.fetch_add(1, std::memory_order_relaxed);
    return p;
}

void* block(std::size_t alignment, std::size_t bytes) {
#if defined(__linux__)
    return __real_aligned_alloc(alignment, bytes);
#else
    return std::aligned_alloc(alignment, bytes);
#endif
}

}  // namespace

void* operator new(std::size_t bytes) {
    void* const p = fails() ? nullptr : granted(std::malloc(bytes == 0 ? 1 : bytes));
    if (p == nullptr) throw std::bad_alloc();
    return p;
}

// Where a sanitizer brings operators of its own, each one that delete may meet is needed here.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
    return fails() ? nullptr : granted(std::malloc(bytes == 0 ? 1 : bytes));
}

void* operator new(std::size_t bytes, std::align_val_t alignment) {
    const auto unit = static_cast<std::size_t>(alignment);
    void* const p = fails() ? nullptr : granted(block(unit, (bytes + unit - 1) / unit * unit));
    if (p == nullptr) throw std::bad_alloc();
    return p;
}

void operator delete(void* p) noexcept {
    if (p != nullptr) live.fetch_sub(1, std::memory_order_relaxed);
    std::free(p);
}
void operator delete(void* p, std::size_t) noexcept { operator delete(p); }
void operator delete(void* p, std::align_val_t) noexcept { operator delete(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { operator delete(p); }

#if defined(__linux__)
void* __wrap_mmap(void* at, std::size_t bytes, int protection, int flags, int file, off_t offset) {
    if (fails()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    void* const p = __real_mmap(at, bytes, protection, flags, file, offset);
    if (p != MAP_FAILED) live.fetch_add(1, std::memory_order_relaxed);
    return p;
}

int __wrap_munmap(void* at, std::size_t bytes) {
    live.fetch_sub(1, std::memory_order_relaxed);
    return __real_munmap(at, bytes);
}

void* __wrap_aligned_alloc(std::size_t alignment, std::size_t bytes) {
    return fails() ? nullptr : __real_aligned_alloc(alignment, bytes);
}
#endif

namespace pygpt::test {

FailingMemory::FailingMemory(long n) {
    reached = false;
    left = n;
}

FailingMemory::~FailingMemory() { left = 0; }

bool FailingMemory::failed() const { return reached; }

long live_memory() { return live; }

}  // namespace pygpt::test
