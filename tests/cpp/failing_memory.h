// Memory that runs out when a test says so.
#pragma once

namespace pygpt::test {

// While it lives, request number n for memory (from 1) fails, whoever makes it: operator new, blocks of the heap for
// buffers, mappings. One at a time.
class FailingMemory {
public:
    explicit FailingMemory(long n);
    FailingMemory(const FailingMemory&) = delete;
    FailingMemory& operator=(const FailingMemory&) = delete;
    ~FailingMemory();

    // Whether the request came.
    bool failed() const;
};

// Requests to operator new and mappings that were granted and not given back.
long live_memory();

}  // namespace pygpt::test
