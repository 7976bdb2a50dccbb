// The transforms of include/transform.cuh for 32-bit words: half the memory, a quarter of the products, primes below 2^30. Nothing of the
// backend uses them yet; they show that the templates carry another word.
#include "transform.cuh"

DEVICE Harvey<u32> form_of(u32 modulus) {
    Limb limb = {};
    limb.q = modulus;
    return Harvey<u32>(limb);
}

// Grid: x is 1, y is 1, z shares the batch.
template <class T> DEVICE void forward32(const Transform32Args& args, u32* shared) {
    const Harvey<u32> form = form_of(args.modulus);
    for (u32 b = blockIdx.z; b < args.batch; b += gridDim.z) {
        u32 x[VALUES];
        const u32* from = args.from + ((u64)b << args.log_degree);
        each_value<T, T::ENTRY>(0, args.log_degree, [&](u32 r, u64 i) { x[r] = from[i]; });
        forward_tile<T>(form, shared, x, args.table, 0);
        u32* to = args.to + ((u64)b << args.log_degree);
        each_value<T, T::EXIT>(0, args.log_degree, [&](u32 r, u64 i) { to[i] = form.canonical(x[r]); });
        __syncthreads();
    }
}

struct End32 {
    Factor32 scale, last;
};

template <class T> DEVICE void inverse32(const Transform32Args& args, u32* shared) {
    const Harvey<u32> form = form_of(args.modulus);
    const End32 end = {args.scale, args.last};
    for (u32 b = blockIdx.z; b < args.batch; b += gridDim.z) {
        u32 x[VALUES];
        const u32* from = args.from + ((u64)b << args.log_degree);
        each_value<T, T::EXIT>(0, args.log_degree, [&](u32 r, u64 i) { x[r] = from[i]; });
        inverse_tile<T, true>(form, shared, x, args.table, &end, 0);
        u32* to = args.to + ((u64)b << args.log_degree);
        each_value<T, T::ENTRY>(0, args.log_degree, [&](u32 r, u64 i) { to[i] = form.canonical_product(x[r]); });
        __syncthreads();
    }
}

#define WHOLE(log)                                                                                                     \
    KERNEL(arras_ntt32_whole_##log, Transform32Args, (Whole<log>::THREADS)) {                                          \
        DYNAMIC_SHARED(u32, shared);                                                                                   \
        forward32<Whole<log>>(args, shared);                                                                           \
    }                                                                                                                  \
    KERNEL(arras_intt32_whole_##log, Transform32Args, (Whole<log>::THREADS)) {                                         \
        DYNAMIC_SHARED(u32, shared);                                                                                   \
        inverse32<Whole<log>>(args, shared);                                                                           \
    }

WHOLE(11)
WHOLE(12)
WHOLE(13)
