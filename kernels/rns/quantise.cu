// Floats to residues.
#include "residue.cuh"

// x 2^scale_bits, which is exact unless it underflows, where it rounds to the integer 0 anyway. Two steps, because 2^1000 times the
// smallest subnormal and 2^-1000 times the largest float both fit.
DEVICE double scaled(double x, i32 scale_bits) {
    i32 half = scale_bits / 2;
    double first = __longlong_as_double((long long)(1023 + half) << 52);
    double second = __longlong_as_double((long long)(1023 + scale_bits - half) << 52);
    return x * first * second;
}

KERNEL(arras_quantise, QuantiseArgs, 256) {
    const Shape& shape = args.shape;
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >> shape.log_degree) return;
    const Limb& limb = shape.limb[shape.id[blockIdx.y]];
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        u64 residue = 0;
        if (i < args.count) {
            u64 at = args.first + b * args.batch_stride + i * args.coefficient_stride;
            double x = scaled(__longlong_as_double((long long)args.values[at]), args.scale_bits);
            // False for NaN as well.
            bool inside = x < 4611686018427387904.0 && x > -4611686018427387904.0;
            if (!inside && blockIdx.y == 0) report(args.fault, b * args.count + i);
            i64 value = inside ? __double2ll_rn(x) : 0;
            residue = reduce_signed(value, limb);
        }
        row(args.out, shape, b, blockIdx.y)[i] = residue;
    }
}
