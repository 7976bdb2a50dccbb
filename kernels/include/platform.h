// What differs between the two compilers of these files: nvcc, and a host compiler that runs kernels on the CPU.
#pragma once

#ifdef __CUDACC__
#include <cstdint>

// KERNEL(name, Arguments, threads[, blocks per multiprocessor]) { body that reads `args` }
#define KERNEL(name, Arguments, ...)                                                                                   \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__) name(const __grid_constant__ Arguments args)

// Dynamic shared memory as an array of T called `name`.
#define DYNAMIC_SHARED(T, name)                                                                                        \
    extern __shared__ __align__(16) unsigned char arras_dynamic_shared[];                                              \
    T* const name = reinterpret_cast<T*>(arras_dynamic_shared)

#define STATIC_SHARED(T, name, count) __shared__ T name[count]

#define DEVICE __device__ __forceinline__
#else
// Defines ARRAS_HOST and everything above. Found in crates/cuda-host/cpp.
#include "host.h"
#endif

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef int32_t i32;
typedef uint64_t u64;
typedef int64_t i64;
typedef unsigned __int128 u128;
typedef __int128 i128;
