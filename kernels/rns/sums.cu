// Sums across limbs and polynomials by their definitions, one result per thread: the oracles of the fast kernels.
#include "residue.cuh"

// out = sum_i y_i (Q/q_i) mod p with y_i = [x_i (Q/q_i)^-1] mod q_i, centred.
KERNEL(arras_base_convert_simple, ConvertArgs, 256) {
    const Shape& shape = args.shape;
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >> shape.log_degree) return;
    const Limb& target = shape.limb[shape.id[blockIdx.y]];
    const u64* weights = args.weights + u64(blockIdx.y) * args.sources;
    Shape source = {nullptr, shape.log_degree, args.sources, shape.batch, 0, {}};
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        // At most 128 products below 2^59 2^60.
        i128 sum = 0;
        for (u32 k = 0; k < args.sources; k++) {
            u64 q = shape.limb[args.source[k]].q, x = row(args.input, source, b, k)[i];
            sum += i128(centre(reduce_once(multiply_lazy(x, args.scale[k], q), q), q)) * weights[k];
        }
        row(args.out, shape, b, blockIdx.y)[i] = reduce_signed(sum, target);
    }
}

// out = sum_k left[k] right(k)
KERNEL(arras_inner_product_simple, InnerProductArgs, 256) {
    const Shape& shape = args.shape;
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >> shape.log_degree) return;
    const Limb& limb = shape.limb[shape.id[blockIdx.y]];
    const Prepared& right = args.right;
    const u64* column = right.base + (u64(right.row[blockIdx.y]) << shape.log_degree) + i;
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        u128 sum = 0;
        for (u64 k = 0; k < args.terms; k++) {
            u64 entry = right.first + k * right.term_stride + b * right.batch_stride;
            u64 x = row(args.left[k], shape, b, blockIdx.y)[i];
            sum += u128(x) * column[entry * right.entry_stride];
            // 255 products below 2^120 and a residue stay below 2^128.
            if (k % 255 == 254) sum = reduce(sum, limb);
        }
        row(args.out, shape, b, blockIdx.y)[i] = reduce(sum, limb);
    }
}

// out[r] = sum_c entries[r][c] input[c]
KERNEL(arras_matrix_product_simple, MatrixProductArgs, 256) {
    const Shape& shape = args.shape;
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >> shape.log_degree) return;
    const Limb& limb = shape.limb[shape.id[blockIdx.y]];
    for (u32 r = blockIdx.z; r < shape.batch; r += gridDim.z) {
        const i64* entries = args.entries + u64(r) * args.columns;
        i128 sum = 0;
        u32 terms = 0;
        for (u32 c = 0; c < args.columns; c++) {
            sum += i128(entries[c]) * row(args.input, shape, c, blockIdx.y)[i];
            if (++terms == args.terms) {
                sum = reduce_signed(sum, limb);
                terms = 1;
            }
        }
        row(args.out, shape, r, blockIdx.y)[i] = reduce_signed(sum, limb);
    }
}
