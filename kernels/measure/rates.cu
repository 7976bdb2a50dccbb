// How many of an instruction the device issues: `CHAINS` chains per thread hide the latency, so what is left is the rate of the pipe.
#include "measure.h"

constexpr u32 CHAINS = 8;
// Links of each chain in one iteration; the loop around them costs two instructions.
constexpr u32 LINKS = 16;

#ifdef ARRAS_HOST
DEVICE u64 cycle() { return 0; }
DEVICE u64 multiply_wide(u32 a, u32 b) { return u64(a) * b; }
#else
DEVICE u64 cycle() { return clock64(); }
// In plain C++ the front end widens first, and the back end adds the high words, which are 0, to each product.
DEVICE u64 multiply_wide(u32 a, u32 b) {
    u64 product;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
    return product;
}
#endif

struct Imad {
    u32 x;
    METHOD void link(u32 a, u32 b) { x = x * a + b; }
};

struct ImadHigh {
    u32 x;
    METHOD void link(u32 a, u32 b) { x = __umulhi(x, a) + b; }
};

// The product of both halves, so that neither is superfluous. It soon vanishes; the rate does not depend on the values.
struct ImadWide {
    u64 x;
    METHOD void link(u32, u32) { x = multiply_wide(u32(x), u32(x >> 32)); }
};

// Two links in one: an addition of three and a logical operation of three, which share a pipe.
struct Add {
    u32 x, y;
    METHOD void link(u32 a, u32 b) {
        u32 old = x;
        x = x + y + a;
        y = old ^ b ^ y;
    }
};

struct Fma {
    double x;
    METHOD void link(u32 a, u32 b) { x = fma(x, double(a), double(b)); }
};

template <class Chain>
DEVICE void run(const RateArgs& args) {
    Chain chain[CHAINS];
    u32 thread = blockIdx.x * blockDim.x + threadIdx.x;
    for (u32 c = 0; c < CHAINS; c++) {
        chain[c] = Chain{};
        chain[c].x = decltype(chain[c].x)(0x9E3779B97F4A7C15 * (thread + c + 1));
    }
    u64 start = cycle();
    for (u32 i = 0; i < args.iterations; i++) {
#pragma unroll
        for (u32 k = 0; k < LINKS; k++) {
#pragma unroll
            for (u32 c = 0; c < CHAINS; c++) chain[c].link(args.a, args.b);
        }
    }
    u64 stop = cycle();
    u64 sum = 0;
    for (u32 c = 0; c < CHAINS; c++) sum += u64(chain[c].x);
    if (thread == 0) args.cycles[0] = stop - start;
    // Not met by any input in use; keeps the chains alive.
    if (args.iterations == 0xFFFFFFFF) args.sink[thread] = sum;
}

KERNEL(arras_measure_imad, RateArgs, 256) { run<Imad>(args); }
KERNEL(arras_measure_imad_high, RateArgs, 256) { run<ImadHigh>(args); }
KERNEL(arras_measure_imad_wide, RateArgs, 256) { run<ImadWide>(args); }
KERNEL(arras_measure_add, RateArgs, 256) { run<Add>(args); }
KERNEL(arras_measure_fma, RateArgs, 256) { run<Fma>(args); }

// What a launch costs when there is nothing to do.
KERNEL(arras_measure_nothing, RateArgs, 32) {
    if (args.iterations == 0xFFFFFFFF) args.sink[0] = 1;
}
