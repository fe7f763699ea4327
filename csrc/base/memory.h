// How the process's heap treats memory that is freed.
#pragma once

namespace pygpt {

// Asks the C library to keep freed memory for later, up to 2 GB of it, instead of giving large arrays back to the
// system at once. A training step frees and takes the same arrays again and again, and the system clears each page
// that it hands out. Does nothing where the library is not glibc.
void keep_freed_memory();

}  // namespace pygpt
