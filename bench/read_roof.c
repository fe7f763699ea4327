// How fast this machine reads memory: prints GB/s.   read_roof BYTES THREADS
//
// Each thread sums its part of one buffer, in each of the ways that were the fastest on some machine; the best of their
// medians is the roof. Huge pages where the system has them.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { kRounds = 11, kWays = 3, kLine = 16 };

typedef float Line __attribute__((vector_size(64)));  // a cache line, whatever the registers' width

// One copy for each width of register; the machine's is chosen when the program starts.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define EACH_WIDTH __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EACH_WIDTH
#endif

typedef struct {
    const float* data;
    size_t length;  // floats
    pthread_barrier_t* barrier;
    float sum;
} Part;

#define READ(name, streams, ahead, level)                                 \
    EACH_WIDTH static float name(const float* p, size_t n) {              \
        const size_t length = n / streams / kLine * kLine;                \
        Line sums[streams] = {0};                                         \
        for (size_t i = 0; i < length; i += kLine) {                      \
            for (size_t s = 0; s < streams; ++s) {                        \
                const float* at = p + s * length + i;                     \
                __builtin_prefetch(at + ahead / sizeof(float), 0, level); \
                sums[s] += *(const Line*)at;                              \
            }                                                             \
        }                                                                 \
        float total = 0;                                                  \
        for (size_t s = 0; s < streams; ++s) {                            \
            for (int i = 0; i < kLine; ++i) total += sums[s][i];          \
        }                                                                 \
        return total;                                                     \
    }
READ(read_1, 1, 8192, 2)
READ(read_4, 4, 2048, 3)
READ(read_8, 8, 1024, 3)
static float (*const kReaders[kWays])(const float*, size_t) = {read_1, read_4, read_8};

static void* run(void* argument) {
    Part* part = argument;
    for (int i = 0; i < kWays * kRounds; ++i) {
        pthread_barrier_wait(part->barrier);
        part->sum += kReaders[i % kWays](part->data, part->length);
        pthread_barrier_wait(part->barrier);
    }
    return NULL;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void* a, const void* b) {
    const double x = *(const double*)a, y = *(const double*)b;
    return (x > y) - (x < y);
}

int main(int argc, char** argv) {
    if (argc != 3) return 1;
    const size_t bytes = ((strtoull(argv[1], NULL, 10) >> 21) + 1) << 21;  // whole huge pages
    const int threads = atoi(argv[2]);
    float* data = aligned_alloc((size_t)1 << 21, bytes);
    if (!data || threads < 1) return 1;
    madvise(data, bytes, MADV_HUGEPAGE);
    memset(data, 1, bytes);  // untouched pages would all be the same one
    Part* parts = calloc((size_t)threads, sizeof(Part));
    pthread_t* ids = calloc((size_t)threads, sizeof(pthread_t));
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
    const size_t length = bytes / sizeof(float) / (size_t)threads / kLine * kLine;
    for (int i = 0; i < threads; ++i) {
        parts[i] = (Part){data + (size_t)i * length, length, &barrier, 0};
        pthread_create(&ids[i], NULL, run, &parts[i]);
    }
    double seconds[kWays][kRounds];
    for (int i = 0; i < kWays * kRounds; ++i) {
        const double begin = now();
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        seconds[i % kWays][i / kWays] = now() - begin;
    }
    float sum = 0;
    for (int i = 0; i < threads; ++i) {
        pthread_join(ids[i], NULL);
        sum += parts[i].sum;
    }
    double best = 0;
    for (int k = 0; k < kWays; ++k) {
        qsort(seconds[k], kRounds, sizeof(double), ascending);
        const double rate = (double)((size_t)threads * length * sizeof(float)) / seconds[k][kRounds / 2];
        best = rate > best ? rate : best;
    }
    printf("%.2f\n", best / 1e9);
    return sum == 0;  // uses the sum, so that it is computed
}
