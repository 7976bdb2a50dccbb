// What the machine under the kernels itself has to notice, or to do right.
#include "abi.h"

struct ProbeArgs {
    u64* out;
    u64 value;
};

// Half of a warp waits for the block, the other half for the warp.
KERNEL(probe_divergent_barrier, ProbeArgs, 64) {
    if (threadIdx.x & 1)
        __syncthreads();
    else
        __syncwarp();
    args.out[threadIdx.x] = 1;
}

KERNEL(probe_lane_not_in_mask, ProbeArgs, 32) { args.out[threadIdx.x] = __shfl_sync(0xffffu, args.value, 0); }

KERNEL(probe_shared_index, ProbeArgs, 32) {
    DYNAMIC_SHARED(u64, shared);
    shared[threadIdx.x + args.value] = 1;
}

KERNEL(probe_shared_pointer, ProbeArgs, 32) {
    DYNAMIC_SHARED(u64, shared);
    u64* raw = shared;
    raw[threadIdx.x + args.value] = 1;
}

// What shared memory holds before anyone wrote it.
KERNEL(probe_shared_fresh, ProbeArgs, 32) {
    DYNAMIC_SHARED(u64, shared);
    STATIC_SHARED(u64, fixed, 32);
    args.out[threadIdx.x] = shared[threadIdx.x] ^ fixed[threadIdx.x];
    shared[threadIdx.x] = fixed[threadIdx.x] = blockIdx.x;
}

// Thread t of 64 ends up with the sum over its warp, then the first warp adds the other's.
KERNEL(probe_shuffles, ProbeArgs, 64) {
    DYNAMIC_SHARED(u64, shared);
    u64 sum = threadIdx.x;
    for (int by = 16; by > 0; by >>= 1) sum += __shfl_xor_sync(~0u, sum, by);
    shared[threadIdx.x] = sum;
    __syncthreads();
    u64 other = shared[threadIdx.x ^ 32];
    u64 next = __shfl_down_sync(~0u, u64(threadIdx.x), 1), last = __shfl_up_sync(~0u, u64(threadIdx.x), 1);
    unsigned odd = __ballot_sync(~0u, threadIdx.x & 1);
    args.out[threadIdx.x] = (sum + other) << 32 | next << 16 | last << 8 | (odd == 0xaaaaaaaau);
}

// Writes one word, wherever that is.
KERNEL(probe_write, ProbeArgs, 32) {
    if (threadIdx.x == 0) *args.out = args.value;
}

// Copies one word from the address in `value`.
KERNEL(probe_read, ProbeArgs, 32) {
    if (threadIdx.x == 0) *args.out = *reinterpret_cast<const u64*>(args.value);
}
