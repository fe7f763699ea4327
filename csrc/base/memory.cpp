#include "base/memory.h"

#include <climits>
#include <cstdlib>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace pygpt {

void keep_freed_memory() {
#if defined(__GLIBC__)
    mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that it allows
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
}

}  // namespace pygpt
