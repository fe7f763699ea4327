// The memory that packed matrices lie in.
#pragma once

#include <cstddef>
#include <memory>

#include "base/buffer.h"

namespace pygpt {

// Zeroed memory in pieces of whole huge pages, which matrices share: most matrices of a small model are too small for
// huge pages of their own. A piece is given back with the last matrix in it.
class MatrixMemory {
public:
    // `piece`: bytes of a piece at least.
    explicit MatrixMemory(std::size_t piece = 0) : piece_(piece) {}

    std::shared_ptr<std::byte> take(std::size_t bytes);

private:
    std::size_t piece_;
    std::shared_ptr<Buffer> current_;
    std::size_t used_ = 0;
};

}  // namespace pygpt
