// Fast transforms that leave something out, or whose values grow beyond what their arithmetic is made for.
#include "transform.cuh"

// The last polynomial is left out.
KERNEL(broken_ntt_whole_one_short, TransformArgs, (Whole<11>::THREADS)) {
    DYNAMIC_SHARED(u64, shared);
    TransformArgs fewer = args;
    fewer.shape.batch--;
    forward_kernel<Whole<11>, true, Lazy>(fewer, shared);
}

// Uncorrected butterflies, right up to 57 bits, for primes of 60.
KERNEL(broken_ntt_whole_too_lazy, TransformArgs, (Whole<12>::THREADS)) {
    DYNAMIC_SHARED(u64, shared);
    forward_kernel<Whole<12>, true, Lazy>(args, shared);
}
