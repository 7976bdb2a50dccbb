// The structures of the kernels that measure a device, mirrored in crates/cuda/src/measure.rs. They are not part of abi.h: nothing that
// computes depends on them.
#pragma once
#include "abi.h"

// A member function; DEVICE is for free functions.
#define METHOD __device__ __forceinline__

// Chains of one instruction per thread, each link waiting only for the one before it.
struct RateArgs {
    u64* cycles;    // of block 0
    u64* sink;      // never written, but the compiler cannot know
    u32 a, b;       // operands; a odd
    u32 iterations;
    u32 reserved;
};
static_assert(sizeof(RateArgs) == 32, "measure.rs");

// A buffer read or copied `passes` times, 16 bytes per thread and access.
struct StreamArgs {
    const u64* from;
    u64* to;
    u64 words;    // even
    u32 passes;
    u32 reserved;
};
static_assert(sizeof(StreamArgs) == 32, "measure.rs");

// Operands of the kernels that are only compiled, so that their instructions can be counted.
struct CountArgs {
    Limb limb;
    const u64* from;
    const u64* other;
    u64* to;
    const Factor* factors;
};
static_assert(sizeof(CountArgs) == 128, "counts.cu");
