// Kernels with the mistakes that are made most: a thread too few, a value out of range, a reduction that comes too late.
#include "residue.cuh"

// The last two coefficients of a row are left out.
KERNEL(broken_add_short, PointwiseArgs, 256) {
    const Shape& shape = args.shape;
    u32 i = 2 * (blockIdx.x * blockDim.x + threadIdx.x), l = blockIdx.y;
    if (i + 2 >= 1u << shape.log_degree) return;
    u64 q = shape.limb[shape.id[l]].q;
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z)
        for (u32 k = i; k < i + 2; k++)
            row(args.out, shape, b, l)[k] = add(row(args.a, shape, b, l)[k], row(args.b, shape, b, l)[k], q);
}

// The product stays in [0, 2q).
KERNEL(broken_scale_add_lazy, ScaleArgs, 256) {
    const Shape& shape = args.shape;
    u32 i = 2 * (blockIdx.x * blockDim.x + threadIdx.x), l = blockIdx.y;
    if (i >> shape.log_degree) return;
    u64 q = shape.limb[shape.id[l]].q;
    bool sum = args.b.base || args.b.rows;
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z)
        for (u32 k = i; k < i + 2; k++) {
            u64 y = sum ? row(args.b, shape, b, l)[k] : 0;
            row(args.out, shape, b, l)[k] = multiply_lazy(row(args.a, shape, b, l)[k], args.scalar[l], q) + y;
        }
}

// The sum is reduced at the end only: right for up to 256 terms.
KERNEL(broken_inner_product_overflow, InnerProductArgs, 256) {
    const Shape& shape = args.shape;
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >> shape.log_degree) return;
    const Prepared& right = args.right;
    const u64* column = right.base + (u64(right.row[blockIdx.y]) << shape.log_degree) + i;
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        u128 sum = 0;
        for (u64 k = 0; k < args.terms; k++) {
            u64 entry = right.first + k * right.term_stride + b * right.batch_stride;
            sum += u128(row(args.left[k], shape, b, blockIdx.y)[i]) * column[entry * right.entry_stride];
        }
        row(args.out, shape, b, blockIdx.y)[i] = reduce(sum, shape.limb[shape.id[blockIdx.y]]);
    }
}

// Writes the word behind each row as well.
KERNEL(broken_negate_spill, PointwiseArgs, 256) {
    const Shape& shape = args.shape;
    u32 i = 2 * (blockIdx.x * blockDim.x + threadIdx.x), l = blockIdx.y;
    if (i >> shape.log_degree) return;
    u64 q = shape.limb[shape.id[l]].q;
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z)
        for (u32 k = i + 2; k-- > i;) {
            u64* out = row(args.out, shape, b, l);
            u64 x = negate(row(args.a, shape, b, l)[k], q);
            if (k + 1 == 1u << shape.log_degree) out[k + 1] = 1;
            out[k] = x;
        }
}
