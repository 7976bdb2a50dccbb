// Bodies of the transform kernels: where the values of a tile come from and where they go.
//
// Three kinds of tile, named by what of the polynomial they hold:
//
//   Whole    all of it                                     N = 2^11 .. 2^13, one kernel
//   Columns  sixteen columns of a matrix of 2^ROWS rows    the first ROWS stages of N = 2^14 .. 2^17
//   Rows     consecutive rows of 2^COLUMNS values          the other COLUMNS stages
//
// Between the kernels for Columns and Rows the values lie in the output, uncorrected: below (1 + 4 ROWS) q forward, 4q
// inverse (4q and 2q with Harvey's butterflies).
#pragma once

#include "fast.h"
#include "tile.cuh"

template <int LOG>
struct Whole : Tile<LOG, 0, LOG, 0> {
    typedef Tile<LOG, 0, LOG, 0> Base;
    // A thread's values before the first stage and after the last, in the order of the forward transform.
    static constexpr int ENTRY = Base::bit(0), EXIT = 5;
    static METHOD u32 tile(u32) { return 0; }
    static METHOD u64 position(u32, u32 index, u32) { return index; }
    static METHOD u64 distance(u32 step, u32) { return step; }
};

template <int ROWS>
struct Columns : Tile<ROWS + 4, 4, ROWS + 4, 0> {
    typedef Tile<ROWS + 4, 4, ROWS + 4, 0> Base;
    static constexpr int ENTRY = Base::bit(0), EXIT = 4;
    static METHOD u32 tile(u32) { return 0; }
    static METHOD u64 position(u32 block, u32 index, u32 log_degree) {
        return ((index >> 4) << (log_degree - ROWS)) | (block << 4) | (index & 15);
    }
    static METHOD u64 distance(u32 step, u32 log_degree) { return (step >> 4) << (log_degree - ROWS); }
};

template <int ROWS, int COLUMNS>
struct Rows : Tile<12, 0, COLUMNS, ROWS> {
    typedef Tile<12, 0, COLUMNS, ROWS> Base;
    static constexpr int ENTRY = Base::bit(0), EXIT = 5;
    static METHOD u32 tile(u32 block) { return block; }
    static METHOD u64 position(u32 block, u32 index, u32) { return (block << 12) | index; }
    static METHOD u64 distance(u32 step, u32) { return step; }
};

// Blocks to a multiprocessor at the given number of registers to a thread.
constexpr u32 blocks(u32 threads, u32 registers) {
    return threads * registers > 32768 ? 1 : 65536 / (threads * registers);
}

// A kernel for tiles of a kind (the last argument): 80 registers where the form needs few, else 96 or more.
#define TRANSFORM(name, Arguments, Form, ...)                                                                          \
    KERNEL(name, Arguments, (__VA_ARGS__::THREADS),                                                                    \
           (blocks(__VA_ARGS__::THREADS, Form::LEAN && __VA_ARGS__::THREADS > 128 ? 80 : 96)))

// Calls `f(r, position)` for the values of a thread that are held at bit BIT of the tile.
template <class T, int BIT, class F>
DEVICE void each_value(u32 block, u32 log_degree, F f) {
    const u64 first = T::position(block, T::first(BIT), log_degree);
#pragma unroll
    for (u32 r = 0; r < VALUES; r++) f(r, first + T::distance(T::step(BIT, r), log_degree));
}

// Stages of a forward transform on the tile of block number `block`, from values at T::ENTRY to values at T::EXIT.
template <class T, class Form>
DEVICE void forward_tile(const Form& form, typename Form::Word* shared, typename Form::Word (&x)[VALUES],
                         const typename Form::Factor* table, u32 block) {
    T::template forward<Form>(form, shared, x, table, T::tile(block));
    constexpr int END = T::bit(T::PASSES - 1);
    if constexpr (END != T::EXIT) T::template exchange<END, T::EXIT>(shared, x);
}

// The same for an inverse transform, from T::EXIT to T::ENTRY; with `LAST` these are its last stages, which multiply, and
// the values come out in the range of `canonical_product`.
template <class T, bool LAST, class Form, class End>
DEVICE void inverse_tile(const Form& form, typename Form::Word* shared, typename Form::Word (&x)[VALUES],
                         const typename Form::Factor* table, const End* end, u32 block) {
    constexpr int START = T::bit(T::PASSES - 1);
    if constexpr (START != T::EXIT) T::template exchange<T::EXIT, START>(shared, x);
    T::template inverse<Form, LAST>(form, shared, x, table, T::tile(block), end);
}

// Grid: x the tiles of a row, y the limbs, z any number of blocks that share the batch: a block does its tile of every
// gridDim.z-th polynomial, with the same twiddle factors.
template <class T, bool LAST, class Form>
DEVICE void forward_kernel(const TransformArgs& args, u64* shared) {
    const Shape& shape = args.shape;
    const u32 l = blockIdx.y, id = shape.id[l];
    const Form form(shape.limb[id]);
    const Factor* table = args.table[id].forward;
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        u64 x[VALUES];
        const u64* from = row(args.a, shape, b, l);
        each_value<T, T::ENTRY>(blockIdx.x, shape.log_degree, [&](u32 r, u64 i) { x[r] = from[i]; });
        forward_tile<T>(form, shared, x, table, blockIdx.x);
        u64* to = row(args.out, shape, b, l);
        each_value<T, T::EXIT>(blockIdx.x, shape.log_degree,
                               [&](u32 r, u64 i) { to[i] = LAST ? form.canonical(x[r]) : x[r]; });
        __syncthreads();
    }
}

template <class T, bool LAST, class Form>
DEVICE void inverse_kernel(const TransformArgs& args, u64* shared) {
    const Shape& shape = args.shape;
    const u32 l = blockIdx.y, id = shape.id[l];
    const Form form(shape.limb[id]);
    const Factor* table = args.table[id].inverse;
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        u64 x[VALUES];
        const u64* from = row(args.a, shape, b, l);
        each_value<T, T::EXIT>(blockIdx.x, shape.log_degree, [&](u32 r, u64 i) { x[r] = from[i]; });
        inverse_tile<T, LAST>(form, shared, x, table, args.end + id, blockIdx.x);
        u64* to = row(args.out, shape, b, l);
        const u64 offset = LAST ? args.end[id].offset : 0;
        each_value<T, T::ENTRY>(blockIdx.x, shape.log_degree, [&](u32 r, u64 i) {
            to[i] = LAST ? correct(form.canonical_product(x[r]) + offset, form.q()) : x[r];
        });
        __syncthreads();
    }
}
