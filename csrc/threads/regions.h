// Regions: threads of somebody else, which a team may use in the place of its own.
#pragma once

#include "threads/per_process.h"

namespace pygpt {

struct Regions {
    // Calls work(data, thread) at once on up to `threads` threads, of which the caller is one, with different numbers
    // from 0 on; returns when all have come back. `work` throws nothing.
    void (*run)(int threads, void (*work)(void* data, int thread), void* data);
    // That which loaded them: in a child process after fork() the threads do not exist.
    ProcessId process;
};

}  // namespace pygpt
