// Secret randomness and what a client checks before it encrypts, for the process of a key's owner: nothing here may run anywhere else, and
// the buffers are wiped in queue order. No branch, no address and no loop count depends on a secret value.
#include "fast.h"
#include "residue.cuh"

DEVICE u32 rotate_left(u32 x, u32 by) { return __funnelshift_l(x, x, by); }

DEVICE void quarter_round(u32& a, u32& b, u32& c, u32& d) {
    a += b;
    d = rotate_left(d ^ a, 16);
    c += d;
    b = rotate_left(b ^ c, 12);
    a += b;
    d = rotate_left(d ^ a, 8);
    c += d;
    b = rotate_left(b ^ c, 7);
}

// Block number `counter` of the stream of a key.
DEVICE void chacha20(u32 (&out)[16], const u32* key, u64 counter) {
    u32 state[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
#pragma unroll
    for (u32 i = 0; i < 8; i++) state[4 + i] = key[i];
    state[12] = (u32)counter, state[13] = (u32)(counter >> 32), state[14] = 0, state[15] = 0;
#pragma unroll
    for (u32 i = 0; i < 16; i++) out[i] = state[i];
#pragma unroll
    for (u32 round = 0; round < 10; round++) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) quarter_round(out[i], out[4 + i], out[8 + i], out[12 + i]);
#pragma unroll
        for (u32 i = 0; i < 4; i++)
            quarter_round(out[i], out[4 + (i + 1) % 4], out[8 + (i + 2) % 4], out[12 + (i + 3) % 4]);
    }
#pragma unroll
    for (u32 i = 0; i < 16; i++) out[i] += state[i];
}

// The difference of the numbers of ones in the lowest 21 bits and in the next, as a byte.
DEVICE u32 binomial(u64 word) {
    const u32 low = (u32)word & 0x1fffff, high = (u32)(word >> 21) & 0x1fffff;
    return (u32)(__popc(low) - __popc(high)) & 0xff;
}

// Centred binomial noise as `Sampler::noise` of crates/ckks draws it from ChaCha20 (D. J. Bernstein, ChaCha, a variant of Salsa20, 2008:
// 64-bit counter from 0, nonce 0): 192 values take 128 words of 64 bits, low half first. Words j and 64 + j, j < 64, give values j and
// 64 + j by their lowest 42 bits, and value 128 + j by the 22 bits that each has left.
//
// Value number v of all goes to coefficient v % count of polynomial v / count, modulo every selected prime. The other coefficients
// become 0. Grid: x covers 8 threads for each 192 values; a thread makes 24 of them from two blocks of the stream.
KERNEL(arras_sample_noise, SampleArgs, 128) {
    const Shape& shape = args.shape;
    const u32 group = blockIdx.x * blockDim.x + threadIdx.x, chunk = group / 8;
    const u32 first = 192 * chunk + group % 8 * 8, total = shape.batch * args.count;
    // The threads share what is behind the values of each polynomial.
    const u32 behind = (1u << shape.log_degree) - args.count, threads = gridDim.x * blockDim.x;
    for (u32 i = group; i < shape.batch * behind; i += threads)
        for (u32 l = 0; l < shape.limbs; l++) row(args.out, shape, i / behind, l)[args.count + i % behind] = 0;
    if (first >= total) return;
    u32 a[16], b[16];
    chacha20(a, args.key, 16 * (u64)chunk + group % 8);
    chacha20(b, args.key, 16 * (u64)chunk + group % 8 + 8);
    // Eight values to a word, so that they stay in registers.
    u64 small[3] = {0, 0, 0};
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        const u64 x = (u64)a[2 * i + 1] << 32 | a[2 * i], y = (u64)b[2 * i + 1] << 32 | b[2 * i];
        small[0] |= (u64)binomial(x) << 8 * i;
        small[1] |= (u64)binomial(y) << 8 * i;
        small[2] |= (u64)binomial(x >> 42 | y >> 42 << 22) << 8 * i;
    }
#pragma unroll
    for (u32 k = 0; k < 3; k++) {
#pragma unroll 1
        for (u32 i = 0; i < 8; i++) {
            const u32 v = first + 64 * k + i, polynomial = v / args.count, at = v % args.count;
            if (v >= total) break;
            const i64 x = (signed char)(small[k] >> 8 * i);
            for (u32 l = 0; l < shape.limbs; l++) {
                const u64 q = shape.limb[shape.id[l]].q;
                row(args.out, shape, polynomial, l)[at] = (u64)x + ((u64)(x >> 63) & q);
            }
        }
    }
}

// The largest norm of rows of 64-bit floats, and the first row that has an element beyond x_max (or none that is a number) or a norm
// beyond norm_max. Sums go in the order of the host. Grid: x covers the rows, one to a thread.
KERNEL(arras_feature_bounds, FeatureArgs, 128) {
    const u64 r = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (r >= args.rows) return;
    const double* x = args.values + r * args.dimension;
    bool inside = true;
    double sum = 0.0;
    for (u64 i = 0; i < args.dimension; i++) {
        const double value = x[i];
        inside &= fabs(value) <= args.x_max;
        sum = __dadd_rn(sum, __dmul_rn(value, value));
    }
    const double norm = __dsqrt_rn(sum);
    if (!inside || !(norm <= args.norm_max)) report(args.found, r);
    // Bit patterns of positive floats are in the order of their values.
    atomicMax(reinterpret_cast<unsigned long long*>(args.found + 1), (unsigned long long)__double_as_longlong(norm));
}
