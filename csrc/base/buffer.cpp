#include "base/buffer.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "base/error.h"
#include "base/lanes.h"
#include "base/system.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pygpt {

namespace {
constexpr std::size_t kLine = 64;
#if defined(__linux__)
constexpr std::size_t kHuge = std::size_t{2} << 20;
#endif
}  // namespace

Buffer::Buffer(std::size_t bytes) : size_(bytes) {
    if (bytes == 0) return;
    if (bytes > std::numeric_limits<std::size_t>::max() / 2) throw std::bad_alloc();
#if defined(__linux__)
    if (bytes >= kHuge) {
        // The system grants what it does not have, and ends the process that uses it: so it is asked first.
        const std::uint64_t available = available_memory().value_or(bytes);
        if (bytes > available) throw OutOfMemory(bytes, available);
        mapped_ = bytes + kHuge;  // room to align the start
        mapping_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapping_ == MAP_FAILED) {
            mapping_ = nullptr;
            throw OutOfMemory(bytes, available);
        }
        const auto start = round_up(reinterpret_cast<std::uintptr_t>(mapping_), kHuge);
        data_ = reinterpret_cast<std::byte*>(start);
        // A hint: where huge pages are off the buffer works all the same. Whole pages only, or the last one would
        // cost up to 2 MB that nobody asked for.
        madvise(data_, bytes / kHuge * kHuge, MADV_HUGEPAGE);
        return;
    }
#endif
    data_ = static_cast<std::byte*>(std::aligned_alloc(kLine, round_up(bytes, kLine)));
    if (data_ == nullptr) throw std::bad_alloc();
    std::memset(data_, 0, bytes);
}

Buffer::~Buffer() {
#if defined(__linux__)
    if (mapping_ != nullptr) {
        munmap(mapping_, mapped_);
        return;
    }
#endif
    std::free(data_);
}

}  // namespace pygpt
