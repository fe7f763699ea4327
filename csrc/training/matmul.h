// C = A B (+ bias), or C += A B, for any float32 matrices on a team of threads.
#pragma once

#include <cstddef>

#include "base/buffer.h"
#include "kernels/training/panel_product.h"

namespace pygpt {

class Team;

// A (rows, columns) factor of a product, row stride ld; transposed: what is stored is (columns, rows), row stride ld.
struct Factor {
    const float* data;
    std::ptrdiff_t ld;
    bool transposed;
};

struct MatmulCall {
    Factor a;  // (m, k)
    Factor b;  // (k, n)
    float* c;  // (m, n), row stride ldc
    std::ptrdiff_t ldc;
    int m, n, k;
    bool add;           // C += A B
    const float* bias;  // (n,) or null
};

// Both factors are packed on the way, block by block, in memory that an object keeps: about 5 MiB and 0.2 MiB for each
// thread. One call at a time.
class Matmul {
public:
    // In one format of the table's: what equal bits it promises stands in kernels/training/panel_product.h.
    Matmul(const MatmulFormat& format, int threads);

    // The team may not have more threads than the constructor was told. Equal bits for every team.
    void run(Team& team, const MatmulCall& call);

private:
    void pack(Team& team, const MatmulCall& block);
    void multiply(Team& team, const MatmulCall& block);

    std::byte* packed_rows(int thread) const;

    const MatmulFormat& format_;
    Buffer panels_;  // of B, of one block
    Buffer rows_;    // of A, of one task for each thread
};

}  // namespace pygpt
