// A fast transform without the barriers of its warps.
#include "fast.h"

// In a namespace of its own: what the good kernels are made of has the same names.
namespace without_warp_barriers {
#define __syncwarp() static_cast<void>(0)
#include "transform.cuh"

KERNEL(broken_intt_whole_without_warp_barriers, TransformArgs, (Whole<11>::THREADS)) {
    DYNAMIC_SHARED(u64, shared);
    inverse_kernel<Whole<11>, true, Lazy>(args, shared);
}
}  // namespace without_warp_barriers
