// Secret randomness and symmetric encryption, for the process of a key's owner: nothing here may run anywhere else, and the
// buffers are wiped in queue order.
//
// Value k of a stream is the k-th pair of 32-bit words of ChaCha20 (D. J. Bernstein, ChaCha, a variant of Salsa20, 2008:
// 64-bit counter from 0, nonce 0), low word first, as `SecretRng` of crates/secret draws it. No branch, no address and no
// loop count depends on a value.
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

// Grid: x covers N / 8, z the batch. A thread makes eight values, coefficient i of polynomial b being value
// 8 block + b N + i, and writes their residues modulo every selected prime.
template <class Value>
DEVICE void sample(const SampleArgs& args, Value value) {
    const Shape& shape = args.shape;
    const u32 group = blockIdx.x * blockDim.x + threadIdx.x;
    if (8 * group >> shape.log_degree) return;
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        u32 words[16];
        chacha20(words, args.key, args.block + ((u64)b << (shape.log_degree - 3)) + group);
        for (u32 l = 0; l < shape.limbs; l++) {
            const u64 q = shape.limb[shape.id[l]].q;
            u64* out = row(args.out, shape, b, l) + 8 * group;
#pragma unroll
            for (u32 i = 0; i < 8; i++) {
                const i64 x = value(words[2 * i], words[2 * i + 1]);
                out[i] = (u64)x + ((u64)(x >> 63) & q);
            }
        }
    }
}

// Centred binomial: the difference of two sums of 21 fair bits, the lowest 42 of a value.
KERNEL(arras_sample_noise, SampleArgs, 128) {
    sample(args, [](u32 low, u32 high) {
        const u32 first = low & 0x1fffff, second = (low >> 21 | high << 11) & 0x1fffff;
        return (i64)(__popc(first) - __popc(second));
    });
}

// Uniform in {-1, 0, 1}: the high word of three times a value, less one.
KERNEL(arras_sample_ternary, SampleArgs, 128) {
    sample(args, [](u32 low, u32 high) { return (i64)__umul64hi((u64)high << 32 | low, 3) - 1; });
}

// out = out - a b: the end of an encryption, whose product alone would give the secret and is never stored. Grid: rows.
KERNEL(arras_subtract_product, PointwiseArgs, 256) {
    const Shape& shape = args.shape;
    const u32 at = blockIdx.x * blockDim.x + threadIdx.x, l = blockIdx.y;
    if (at >> shape.log_degree) return;
    const Limb& limb = shape.limb[shape.id[l]];
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        u64* out = row(args.out, shape, b, l) + at;
        const u64 product = multiply(row(args.a, shape, b, l)[at], row(args.b, shape, b, l)[at], limb);
        *out = sub(*out, product, limb.q);
    }
}
