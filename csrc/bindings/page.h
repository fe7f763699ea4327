// A page of a cache as Python holds it.
#pragma once

#include <memory>

#include "base/buffer.h"

namespace pygpt {

// As long as there is one, no session writes to the page.
struct Page {
    std::shared_ptr<Buffer> memory;
};

}  // namespace pygpt
