// Public expansion of seeds, docs/seed-expansion.md: one BLAKE3 compression, that is four residues, per thread.
#include "residue.cuh"

DEVICE u32 rotate_right(u32 x, u32 by) { return __funnelshift_r(x, x, by); }

DEVICE void mix(u32& a, u32& b, u32& c, u32& d, u32 x, u32 y) {
    a += b + x;
    d = rotate_right(d ^ a, 16);
    c += d;
    b = rotate_right(b ^ c, 12);
    a += b + y;
    d = rotate_right(d ^ a, 8);
    c += d;
    b = rotate_right(b ^ c, 7);
}

DEVICE void mix_all(u32 (&v)[16], const u32 (&m)[16]) {
    mix(v[0], v[4], v[8], v[12], m[0], m[1]);
    mix(v[1], v[5], v[9], v[13], m[2], m[3]);
    mix(v[2], v[6], v[10], v[14], m[4], m[5]);
    mix(v[3], v[7], v[11], v[15], m[6], m[7]);
    mix(v[0], v[5], v[10], v[15], m[8], m[9]);
    mix(v[1], v[6], v[11], v[12], m[10], m[11]);
    mix(v[2], v[7], v[8], v[13], m[12], m[13]);
    mix(v[3], v[4], v[9], v[14], m[14], m[15]);
}

DEVICE void permute(u32 (&m)[16]) {
    u32 old[16];
#pragma unroll
    for (int i = 0; i < 16; i++) old[i] = m[i];
    m[0] = old[2], m[1] = old[6], m[2] = old[3], m[3] = old[10];
    m[4] = old[7], m[5] = old[0], m[6] = old[4], m[7] = old[13];
    m[8] = old[1], m[9] = old[11], m[10] = old[12], m[11] = old[5];
    m[12] = old[9], m[13] = old[14], m[14] = old[15], m[15] = old[8];
}

// Output block number `counter` of the message: all 16 words.
DEVICE void compress(u32 (&out)[16], u32 (&m)[16], u32 counter) {
    constexpr u32 ROOT_CHUNK = 1 | 2 | 8, LENGTH = 60;
    const u32 iv[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    u32 v[16] = {iv[0], iv[1], iv[2], iv[3], iv[4], iv[5], iv[6], iv[7], iv[0], iv[1], iv[2], iv[3], counter, 0, LENGTH,
        ROOT_CHUNK};
#pragma unroll
    for (int round = 0; round < 7; round++) {
        mix_all(v, m);
        permute(m);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        out[i] = v[i] ^ v[i + 8];
        out[i + 8] = v[i + 8] ^ iv[i];
    }
}

KERNEL(arras_expand_seed, ExpandArgs, 128) {
    const Shape& shape = args.shape;
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (4 * i >> shape.log_degree) return;
    const Limb& limb = shape.limb[shape.id[blockIdx.y]];
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        u32 m[16], out[16];
#pragma unroll
        for (int k = 0; k < 13; k++) m[k] = args.message[b].word[k];
        m[13] = u32(limb.q), m[14] = u32(limb.q >> 32), m[15] = 0;
        compress(out, m, i);
        u64* residues = row(args.out, shape, b, blockIdx.y) + 4 * i;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            u64 low = out[4 * k] | u64(out[4 * k + 1]) << 32, high = out[4 * k + 2] | u64(out[4 * k + 3]) << 32;
            residues[k] = reduce(low, high, limb);
        }
    }
}
