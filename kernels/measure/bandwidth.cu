// How fast words move between memory and multiprocessors. Which memory depends on the size: what fits the second-level cache stays there
// between passes.
#include "measure.h"

#ifdef ARRAS_HOST
struct alignas(16) Pair {
    u64 x, y;
};
DEVICE Pair load(const Pair* from) { return *from; }
#else
typedef ulonglong2 Pair;
// Past the first-level cache, where a multiprocessor would find its own part again in the next pass.
DEVICE Pair load(const Pair* from) { return __ldcg(from); }
#endif

// Accesses in flight per thread.
constexpr u32 DEPTH = 8;

KERNEL(arras_measure_read, StreamArgs, 512, 3) {
    const Pair* from = reinterpret_cast<const Pair*>(args.from);
    u64 pairs = args.words / 2, threads = u64(gridDim.x) * blockDim.x;
    u64 thread = u64(blockIdx.x) * blockDim.x + threadIdx.x;
    u64 sum = 0;
    for (u32 pass = 0; pass < args.passes; pass++) {
        for (u64 i = thread; i < pairs; i += DEPTH * threads) {
            Pair part[DEPTH];
#pragma unroll
            for (u32 k = 0; k < DEPTH; k++) {
                u64 at = i + k * threads;
                part[k] = at < pairs ? load(from + at) : Pair{0, 0};
            }
#pragma unroll
            for (u32 k = 0; k < DEPTH; k++) sum += part[k].x ^ part[k].y;
        }
    }
    // A pass cannot be dropped, because its sum is written.
    args.to[thread] = sum;
}

KERNEL(arras_measure_copy, StreamArgs, 512, 3) {
    const Pair* from = reinterpret_cast<const Pair*>(args.from);
    Pair* to = reinterpret_cast<Pair*>(args.to);
    u64 pairs = args.words / 2, threads = u64(gridDim.x) * blockDim.x;
    for (u32 pass = 0; pass < args.passes; pass++) {
        for (u64 i = u64(blockIdx.x) * blockDim.x + threadIdx.x; i < pairs; i += threads) to[i] = load(from + i);
    }
}
