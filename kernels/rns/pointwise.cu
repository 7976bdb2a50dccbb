// Element by element operations: two coefficients per thread, so that memory is moved 16 bytes at a time.
#include "residue.cuh"

struct alignas(16) Pair {
    u64 x, y;
};

// The pair of coefficients that this thread is for, in row l of every polynomial in turn: visit(b, pair number).
template <class Visit> DEVICE void each_pair(const Shape& shape, Visit visit) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (2 * i >> shape.log_degree) return;
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) visit(b, i);
}

DEVICE Pair& pair_of(const View& view, const Shape& shape, u32 b, u32 i) {
    return reinterpret_cast<Pair*>(row(view, shape, b, blockIdx.y))[i];
}

DEVICE const Limb& limb_of(const Shape& shape) { return shape.limb[shape.id[blockIdx.y]]; }

template <class F> DEVICE void unary(const PointwiseArgs& args, F f) {
    each_pair(args.shape, [&](u32 b, u32 i) {
        Pair a = pair_of(args.a, args.shape, b, i);
        pair_of(args.out, args.shape, b, i) = {f(a.x), f(a.y)};
    });
}

template <class F> DEVICE void binary(const PointwiseArgs& args, F f) {
    each_pair(args.shape, [&](u32 b, u32 i) {
        Pair x = pair_of(args.a, args.shape, b, i), y = pair_of(args.b, args.shape, b, i);
        pair_of(args.out, args.shape, b, i) = {f(x.x, y.x), f(x.y, y.y)};
    });
}

KERNEL(arras_copy, PointwiseArgs, 256) {
    unary(args, [](u64 a) { return a; });
}

KERNEL(arras_negate, PointwiseArgs, 256) {
    u64 q = limb_of(args.shape).q;
    unary(args, [=](u64 a) { return negate(a, q); });
}

KERNEL(arras_add, PointwiseArgs, 256) {
    u64 q = limb_of(args.shape).q;
    binary(args, [=](u64 a, u64 b) { return add(a, b, q); });
}

KERNEL(arras_sub, PointwiseArgs, 256) {
    u64 q = limb_of(args.shape).q;
    binary(args, [=](u64 a, u64 b) { return sub(a, b, q); });
}

KERNEL(arras_multiply, PointwiseArgs, 256) {
    const Limb& limb = limb_of(args.shape);
    binary(args, [&](u64 a, u64 b) { return multiply(a, b, limb); });
}

KERNEL(arras_multiply_accumulate, PointwiseArgs, 256) {
    const Limb& limb = limb_of(args.shape);
    each_pair(args.shape, [&](u32 b, u32 i) {
        Pair x = pair_of(args.a, args.shape, b, i), y = pair_of(args.b, args.shape, b, i);
        Pair& out = pair_of(args.out, args.shape, b, i);
        // Below 2^120 + 2^60.
        out = {reduce(u128(x.x) * y.x + out.x, limb), reduce(u128(x.y) * y.y + out.y, limb)};
    });
}

KERNEL(arras_scale_add, ScaleArgs, 256) {
    u64 q = limb_of(args.shape).q;
    Factor scalar = args.scalar[blockIdx.y];
    bool sum = args.b.base || args.b.rows;
    auto scaled = [=](u64 x) { return reduce_once(multiply_lazy(x, scalar, q), q); };
    each_pair(args.shape, [&](u32 b, u32 i) {
        Pair a = pair_of(args.a, args.shape, b, i), y = {0, 0};
        if (sum) y = pair_of(args.b, args.shape, b, i);
        pair_of(args.out, args.shape, b, i) = {add(scaled(a.x), y.x, q), add(scaled(a.y), y.y, q)};
    });
}

// One coefficient per thread. X^i goes to X^(i element), whose sign flips with every wrap around N; the value at root^e
// is the old one at root^(e element).
KERNEL(arras_automorphism, AutomorphismArgs, 256) {
    const Shape& shape = args.shape;
    u32 i = blockIdx.x * blockDim.x + threadIdx.x, degree = 1u << shape.log_degree, turn = 2 * degree - 1;
    if (i >= degree) return;
    u64 q = limb_of(shape).q;
    u32 shift = 32 - shape.log_degree;
    // Products are taken modulo 2^32, of which 2N is a divisor.
    u32 from = i, to = i * args.element & turn;
    bool negative = to >= degree;
    if (args.evaluation) {
        u32 exponent = (2 * (__brev(i) >> shift) + 1) * args.element & turn;
        from = __brev(exponent >> 1) >> shift;
        to = i;
        negative = false;
    }
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        u64 x = row(args.a, shape, b, blockIdx.y)[from];
        row(args.out, shape, b, blockIdx.y)[to & (degree - 1)] = negative ? negate(x, q) : x;
    }
}
