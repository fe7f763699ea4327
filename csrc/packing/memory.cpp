#include "packing/memory.h"

#include <algorithm>

#include "base/lanes.h"

namespace pygpt {

std::shared_ptr<std::byte> MatrixMemory::take(std::size_t bytes) {
    constexpr std::size_t kLine = 64;
    if (current_ == nullptr || bytes > current_->size() - used_) {
        current_ = std::make_shared<Buffer>(std::max(bytes, piece_));
        used_ = 0;
    }
    std::shared_ptr<std::byte> part(current_, current_->data() + used_);
    used_ = std::min(current_->size(), round_up(used_ + bytes, kLine));
    return part;
}

}  // namespace pygpt
