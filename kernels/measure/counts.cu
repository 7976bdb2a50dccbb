// Never launched: scripts/kernel-budget counts the machine instructions of butterflies and modular products here, where nothing else is.
// What a kernel has beyond `arras_count_load`, divided by how often it does its one thing, is what that thing costs. Factors come from
// memory, as they do in a transform: one load in four stages for two butterflies.
#include "butterfly.cuh"
#include "measure.h"

// Loads the values of a thread, hands them to `what`, and stores them.
template <class What>
DEVICE void values(const CountArgs& args, What what) {
    u64 x[VALUES];
#pragma unroll
    for (u32 r = 0; r < VALUES; r++) x[r] = args.from[threadIdx.x + r * blockDim.x];
    what(x);
#pragma unroll
    for (u32 r = 0; r < VALUES; r++) args.to[threadIdx.x + r * blockDim.x] = x[r];
}

KERNEL(arras_count_load, CountArgs, 256) {
    values(args, [](u64 (&)[VALUES]) {});
}

template <class Form>
DEVICE void forward(const CountArgs& args) {
    values(args, [&](u64 (&x)[VALUES]) { forward_pass<Form, 4, 0>(Form(args.limb), x, args.factors); });
}
// What `inverse_pass` reads in the last stage of a transform, which this is not.
struct NoEnd {
    Factor last, scale;
};
template <class Form>
DEVICE void inverse(const CountArgs& args) {
    values(args, [&](u64 (&x)[VALUES]) {
        inverse_pass<Form, 4, 0, false>(Form(args.limb), x, args.factors, (const NoEnd*)nullptr);
    });
}
KERNEL(arras_count_forward_shifted, CountArgs, 256) { forward<Shifted>(args); }
KERNEL(arras_count_forward_lazy, CountArgs, 256) { forward<Lazy>(args); }
KERNEL(arras_count_forward_harvey, CountArgs, 256) { forward<Harvey<u64>>(args); }
KERNEL(arras_count_inverse_shifted, CountArgs, 256) { inverse<Shifted>(args); }
KERNEL(arras_count_inverse_lazy, CountArgs, 256) { inverse<Lazy>(args); }
KERNEL(arras_count_inverse_harvey, CountArgs, 256) { inverse<Harvey<u64>>(args); }

// 16 products added up without reduction. The second operand costs a load each.
KERNEL(arras_count_multiply_add, CountArgs, 256) {
    values(args, [&](u64 (&x)[VALUES]) {
        u128 sum = 0;
#pragma unroll
        for (u32 r = 0; r < VALUES; r++) sum += u128(x[r]) * args.other[threadIdx.x + r * blockDim.x];
#pragma unroll
        for (u32 r = 0; r < VALUES; r++) x[r] = (u64)sum + r * (u64)(sum >> 64);
    });
}

// 16 products, each reduced. The second operand costs a load each.
KERNEL(arras_count_multiply, CountArgs, 256) {
    values(args, [&](u64 (&x)[VALUES]) {
#pragma unroll
        for (u32 r = 0; r < VALUES; r++) x[r] = multiply(x[r], args.other[threadIdx.x + r * blockDim.x], args.limb);
    });
}

// 16 products reduced by the form of primes c 2^32 + 1.
KERNEL(arras_count_multiply_shifted, CountArgs, 256) {
    values(args, [&](u64 (&x)[VALUES]) {
        const Shifted form(args.limb);
        const u64 barrett = Shifted::barrett(args.limb);
#pragma unroll
        for (u32 r = 0; r < VALUES; r++) {
            const u128 product = u128(x[r]) * args.other[threadIdx.x + r * blockDim.x];
            x[r] = form.reduce_wide((u64)product, (u64)(product >> 64), barrett);
        }
    });
}
