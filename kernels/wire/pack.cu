// Residues from and to packed rows of bits, least significant bit first.
#include "residue.cuh"

// `bits` < 64 bits from position `at`; there is a word behind the last.
DEVICE u64 bits_at(const u64* words, u64 at, u32 bits) {
    u32 shift = at & 63;
    u64 low = words[at >> 6] >> shift;
    u64 high = shift ? words[(at >> 6) + 1] << (64 - shift) : 0;
    return (low | high) & ((u64(1) << bits) - 1);
}

// One coefficient per thread; the first thread of each packed row looks at its padding too.
KERNEL(arras_unpack, UnpackArgs, 256) {
    const Shape& shape = args.shape;
    u32 i = blockIdx.x * blockDim.x + threadIdx.x, l = blockIdx.y;
    if (i >> shape.log_degree) return;
    const Limb& limb = shape.limb[shape.id[l]];
    const u64* words = reinterpret_cast<const u64*>(args.packed);
    u32 values = args.transposed ? shape.batch : args.coefficients;
    u64 used = u64(values) * limb.bits;
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        u64 residue = 0;
        if (i < args.coefficients) {
            u64 line = args.transposed ? i : b, place = args.transposed ? b : i;
            u64 start = 8 * (line * args.row_bytes + args.offset[l]), name = (line * shape.limbs + l) << 32;
            residue = bits_at(words, start + place * limb.bits, limb.bits);
            if (residue >= limb.q) report(args.fault, name + place);
            u32 padding = u32(-used & 7);
            if (place == 0 && bits_at(words, start + used, padding)) report(args.fault, name + values);
        }
        row(args.out, shape, b, l)[i] = residue;
    }
}

// floor((2 x 2^bits + q) / 2q) mod 2^bits. With q odd that is floor((x 2^bits + (q - 1) / 2) / q), of a number below 2^120.
DEVICE u64 trimmed(u64 x, u32 bits, const Limb& limb) {
    u128 numerator = (u128(x) << bits) + limb.q / 2;
    u64 quotient = quotient_estimate(u64(numerator), u64(numerator >> 64), limb);
    u64 rest = u64(numerator) - quotient * limb.q;
    quotient += (rest >= limb.q) + (rest >= 2 * limb.q);
    return quotient & ((u64(1) << bits) - 1);
}

// One byte per thread; x covers the bytes of a row.
KERNEL(arras_trim, TrimArgs, 256) {
    const Shape& shape = args.shape;
    u64 byte = u64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (byte >= args.row_bytes) return;
    const Limb& limb = shape.limb[shape.id[0]];
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        const u64* values = row(args.input, shape, b, 0);
        u32 packed = 0;
        u64 first = 8 * byte / args.bits;
        for (u64 k = first; k < args.count && k * args.bits < 8 * byte + 8; k++) {
            u64 value = trimmed(values[args.first + k * args.step], args.bits, limb);
            u64 start = k * args.bits;
            packed |= start < 8 * byte ? u32(value >> (8 * byte - start)) : u32(value) << (start - 8 * byte);
        }
        args.packed[b * args.row_bytes + byte] = u8(packed);
    }
}
