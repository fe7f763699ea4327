#include "threads/openmp.h"

#include <omp.h>

namespace pygpt {

namespace {

void run(int threads, void (*work)(void*, int), void* data) {
#pragma omp parallel num_threads(threads)
    work(data, omp_get_thread_num());
}

}  // namespace

const Regions kOpenMpRegions{run, this_process()};

}  // namespace pygpt
