// A fast transform without the barriers between its passes.
#include "fast.h"

// In a namespace of its own: what the good kernels are made of has the same names.
namespace without_barriers {
#define __syncthreads() static_cast<void>(0)
#include "transform.cuh"

KERNEL(broken_ntt_whole_without_barriers, TransformArgs, (Whole<12>::THREADS)) {
    DYNAMIC_SHARED(u64, shared);
    forward_kernel<Whole<12>, true, Shifted>(args, shared);
}
}  // namespace without_barriers
