// Negacyclic transforms as they are defined, every value canonical after every butterfly: the oracles of the fast transforms, and what
// serves degrees below theirs. Cooley-Tukey forward, natural to bit-reversed order; Gentleman-Sande inverse, the other way round.
#include "residue.cuh"

// Number i of the butterflies of a stage: its inputs are 2^log_half apart, its factor is number `factor`.
struct Butterfly {
    u32 low, high, factor;
};

DEVICE Butterfly butterfly(u32 i, u32 log_half, u32 log_degree) {
    u32 half = 1u << log_half, block = i >> log_half, low = block * 2 * half + (i & (half - 1));
    return {low, low + half, (1u << (log_degree - 1 - log_half)) + block};
}

DEVICE u64 times(u64 x, Factor factor, u64 q) { return reduce_once(multiply_lazy(x, factor, q), q); }

DEVICE void forward_butterfly(u64& low, u64& high, Factor factor, u64 q) {
    u64 x = low, y = times(high, factor, q);
    low = add(x, y, q);
    high = sub(x, y, q);
}

DEVICE void inverse_butterfly(u64& low, u64& high, Factor factor, u64 q) {
    u64 x = low, y = high;
    low = add(x, y, q);
    high = times(sub(x, y, q), factor, q);
}

// One stage in place, one butterfly per thread: x covers N/2.
KERNEL(arras_ntt_stage, StageArgs, 256) {
    const Shape& shape = args.shape;
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (2 * i >> shape.log_degree) return;
    const Limb& limb = shape.limb[shape.id[blockIdx.y]];
    Butterfly at = butterfly(i, args.log_half, shape.log_degree);
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        u64* values = row(args.out, shape, b, blockIdx.y);
        forward_butterfly(values[at.low], values[at.high], limb.forward[at.factor], limb.q);
    }
}

KERNEL(arras_intt_stage, StageArgs, 256) {
    const Shape& shape = args.shape;
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (2 * i >> shape.log_degree) return;
    const Limb& limb = shape.limb[shape.id[blockIdx.y]];
    Butterfly at = butterfly(i, args.log_half, shape.log_degree);
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        u64* values = row(args.out, shape, b, blockIdx.y);
        inverse_butterfly(values[at.low], values[at.high], limb.inverse[at.factor], limb.q);
        if (args.last) {
            values[at.low] = times(values[at.low], limb.degree_inverse, limb.q);
            values[at.high] = times(values[at.high], limb.degree_inverse, limb.q);
        }
    }
}

// A whole row in shared memory (N words), one block per row: x is 1.
KERNEL(arras_ntt_block, PointwiseArgs, 256) {
    DYNAMIC_SHARED(u64, values);
    const Shape& shape = args.shape;
    const Limb& limb = shape.limb[shape.id[blockIdx.y]];
    u32 degree = 1u << shape.log_degree;
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        const u64* input = row(args.a, shape, b, blockIdx.y);
        u64* out = row(args.out, shape, b, blockIdx.y);
        for (u32 i = threadIdx.x; i < degree; i += blockDim.x) values[i] = input[i];
        for (u32 log_half = shape.log_degree; log_half-- > 0;) {
            __syncthreads();
            for (u32 i = threadIdx.x; i < degree / 2; i += blockDim.x) {
                Butterfly at = butterfly(i, log_half, shape.log_degree);
                forward_butterfly(values[at.low], values[at.high], limb.forward[at.factor], limb.q);
            }
        }
        __syncthreads();
        for (u32 i = threadIdx.x; i < degree; i += blockDim.x) out[i] = values[i];
        __syncthreads();
    }
}

KERNEL(arras_intt_block, PointwiseArgs, 256) {
    DYNAMIC_SHARED(u64, values);
    const Shape& shape = args.shape;
    const Limb& limb = shape.limb[shape.id[blockIdx.y]];
    u32 degree = 1u << shape.log_degree;
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        const u64* input = row(args.a, shape, b, blockIdx.y);
        u64* out = row(args.out, shape, b, blockIdx.y);
        for (u32 i = threadIdx.x; i < degree; i += blockDim.x) values[i] = input[i];
        for (u32 log_half = 0; log_half < shape.log_degree; log_half++) {
            __syncthreads();
            for (u32 i = threadIdx.x; i < degree / 2; i += blockDim.x) {
                Butterfly at = butterfly(i, log_half, shape.log_degree);
                inverse_butterfly(values[at.low], values[at.high], limb.inverse[at.factor], limb.q);
            }
        }
        __syncthreads();
        for (u32 i = threadIdx.x; i < degree; i += blockDim.x) out[i] = times(values[i], limb.degree_inverse, limb.q);
        __syncthreads();
    }
}
