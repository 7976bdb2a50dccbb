// Raising digits to more primes and dividing by dropped primes: base conversion fused into the first stages of the
// transform that follows, the division into the last.
//
// x, the sum of the converted digits, starts below q; a term adds less than 4q and every twelve are reduced to 2q, so it
// is below 50q before the transform and below 118q after: in range for `reduce_lazy` and for `multiply_lazy`.
#include "transform.cuh"

constexpr u32 TERMS = 12;    // added before a reduction

// The values of a thread, at T::ENTRY, of polynomial b: sum_i z_i (Q/q_i) mod p, below 50q.
template <class T, class Form>
DEVICE void convert(const Form& form, u64 (&x)[VALUES], const ExtendArgs& args, u32 b) {
    const u32 log_degree = args.shape.log_degree;
    const u64 start = args.start[blockIdx.y];
    Shape sources = args.shape;
    sources.limbs = args.sources;
    const Factor* weights = args.weights + blockIdx.y * args.sources;
#pragma unroll
    for (u32 r = 0; r < VALUES; r++) x[r] = start;
#pragma unroll 1
    for (u32 i = 0; i < args.sources; i++) {
        const Factor weight = weights[i];
        const u64* digit = row(args.digits, sources, b, i);
        each_value<T, T::ENTRY>(blockIdx.x, log_degree,
                                [&](u32 r, u64 at) { x[r] += form.multiply_lazy(digit[at], weight); });
        if (i % TERMS == TERMS - 1) {
#pragma unroll
            for (u32 r = 0; r < VALUES; r++) x[r] = form.reduce_lazy(x[r]);
        }
    }
}

// Writes the values of a thread, at T::EXIT: as they are, or divided.
template <class T, bool DIVIDE, class Form>
DEVICE void finish(const Form& form, const u64 (&x)[VALUES], const ExtendArgs& args, u32 b) {
    const Shape& shape = args.shape;
    u64* to = row(args.out, shape, b, blockIdx.y);
    if constexpr (DIVIDE) {
        const u64* kept = row(args.kept, shape, b, blockIdx.y);
        const Factor scale = args.scale[blockIdx.y];
        each_value<T, T::EXIT>(blockIdx.x, shape.log_degree, [&](u32 r, u64 at) {
            const u64 difference = kept[at] - x[r] + form.template multiple<124>();
            to[at] = form.canonical_product(form.multiply_lazy(difference, scale));
        });
    } else {
        each_value<T, T::EXIT>(blockIdx.x, shape.log_degree, [&](u32 r, u64 at) { to[at] = form.canonical(x[r]); });
    }
}

// Grid as for transforms. Conversion, transform and, to DIVIDE, the rest of a division in one kernel.
template <class T, bool DIVIDE, class Form>
DEVICE void extend_whole(const ExtendArgs& args, u64* shared) {
    const u32 id = args.shape.id[blockIdx.y];
    const Form form(args.shape.limb[id]);
    for (u32 b = blockIdx.z; b < args.shape.batch; b += gridDim.z) {
        u64 x[VALUES];
        convert<T>(form, x, args, b);
        forward_tile<T>(form, shared, x, args.table[id].forward, blockIdx.x);
        finish<T, DIVIDE>(form, x, args, b);
        __syncthreads();
    }
}

// The first of two kernels: conversion and the first stages. The second is the one of the plain transform, or the next.
template <class T, class Form>
DEVICE void extend_columns(const ExtendArgs& args, u64* shared) {
    const Shape& shape = args.shape;
    const u32 id = shape.id[blockIdx.y];
    const Form form(shape.limb[id]);
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        u64 x[VALUES];
        convert<T>(form, x, args, b);
        forward_tile<T>(form, shared, x, args.table[id].forward, blockIdx.x);
        u64* to = row(args.out, shape, b, blockIdx.y);
        each_value<T, T::EXIT>(blockIdx.x, shape.log_degree, [&](u32 r, u64 at) { to[at] = x[r]; });
        __syncthreads();
    }
}

// The second of two kernels of a division: the last stages, in place.
template <class T, class Form>
DEVICE void divide_rows(const ExtendArgs& args, u64* shared) {
    const Shape& shape = args.shape;
    const u32 id = shape.id[blockIdx.y];
    const Form form(shape.limb[id]);
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        u64 x[VALUES];
        const u64* from = row(args.out, shape, b, blockIdx.y);
        each_value<T, T::ENTRY>(blockIdx.x, shape.log_degree, [&](u32 r, u64 at) { x[r] = from[at]; });
        forward_tile<T>(form, shared, x, args.table[id].forward, blockIdx.x);
        finish<T, true>(form, x, args, b);
        __syncthreads();
    }
}

// The conversion needs more registers than a plain transform.
#define EXTENSION(name, ...)                                                                                           \
    KERNEL(name, ExtendArgs, (__VA_ARGS__::THREADS), (blocks(__VA_ARGS__::THREADS, 96)))

#define WHOLE(log, form, Form)                                                                                         \
    EXTENSION(arras_extend_whole_##log##_##form, Whole<log>) {                                       \
        DYNAMIC_SHARED(u64, shared);                                                                                   \
        extend_whole<Whole<log>, false, Form>(args, shared);                                                           \
    }                                                                                                                  \
    EXTENSION(arras_divide_whole_##log##_##form, Whole<log>) {                                       \
        DYNAMIC_SHARED(u64, shared);                                                                                   \
        extend_whole<Whole<log>, true, Form>(args, shared);                                                            \
    }

#define COLUMNS(rows, form, Form)                                                                                      \
    EXTENSION(arras_extend_columns_##rows##_##form, Columns<rows>) {                                 \
        DYNAMIC_SHARED(u64, shared);                                                                                   \
        extend_columns<Columns<rows>, Form>(args, shared);                                                             \
    }

#define ROWS(rows, columns, form, Form)                                                                                \
    TRANSFORM(arras_divide_rows_##rows##_##columns##_##form, ExtendArgs, Form, Rows<rows, columns>) {                  \
        DYNAMIC_SHARED(u64, shared);                                                                                   \
        divide_rows<Rows<rows, columns>, Form>(args, shared);                                                          \
    }

#define ALL(form, Form)                                                                                                \
    WHOLE(11, form, Form)                                                                                              \
    WHOLE(12, form, Form)                                                                                              \
    WHOLE(13, form, Form)                                                                                              \
    COLUMNS(7, form, Form)                                                                                             \
    COLUMNS(8, form, Form)                                                                                             \
    ROWS(7, 7, form, Form)                                                                                             \
    ROWS(8, 7, form, Form)                                                                                             \
    ROWS(8, 8, form, Form)                                                                                             \
    ROWS(8, 9, form, Form)

ALL(shifted, Shifted)
ALL(lazy, Lazy)
