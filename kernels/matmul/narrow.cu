// The product of a matrix of small integers with rows of residues, in integer multiply-adds.
//
// A residue of at most 2p bits is split into a lower piece in [-2^(p-1), 2^(p-1)) and the rest, in [0, 2^p]; the two sums of products
// with 32-bit weights are 64-bit integers. They do not overflow if columns * 2^p * max |weight| < 2^63, which the caller checks.
#include "fast.h"
#include "residue.cuh"

constexpr u32 COLUMNS = 16, SLICES = 16;    // of a block: coefficients, and parts into which the sum is cut
constexpr u32 AHEAD = 4;                    // inputs that are read before the first is used

// sum += a b. From plain C++ the compiler makes an unsigned product and mends it, three instructions more.
DEVICE void multiply_add(i64& sum, i32 a, i32 b) {
#ifdef ARRAS_HOST
    sum += (i64)a * b;
#else
    asm("mad.wide.s32 %0, %1, %2, %0;" : "+l"(sum) : "r"(a), "r"(b));
#endif
}

// Grid: x covers N by COLUMNS, y the limbs, z the tiles of ROWS rows. A thread sums one slice for one coefficient and all
// rows of the tile: lane bits 0 .. 3 are the coefficient, lane bit 4 and the warp are the slice.
template <u32 ROWS>
DEVICE void narrow_product(const NarrowProductArgs& args, i64* shared) {
    const Shape& shape = args.shape;
    const u32 column = threadIdx.x % COLUMNS, slice = threadIdx.x / COLUMNS, warp = threadIdx.x / 32;
    const u32 at = blockIdx.x * COLUMNS + column, l = blockIdx.y, n = 1u << shape.log_degree;
    const i32* weights = args.weights + (u64)blockIdx.z * args.columns * ROWS;
    const u32 mask = (1u << args.piece) - 1, half = 1u << (args.piece - 1);
    i64 sum[2][ROWS] = {};
    const u32 place = at & (n - 1);    // N can be below COLUMNS
    const auto add = [&](u64 x, u32 c) {
        const u64 moved = x + half;
        const i32 low = (i32)((u32)moved & mask) - (i32)half, high = (i32)(moved >> args.piece);
        const uint4* quads = reinterpret_cast<const uint4*>(weights + (u64)c * ROWS);
#pragma unroll
        for (u32 r = 0; r < ROWS; r += 4) {
            const uint4 quad = quads[r / 4];
            const i32 weight[4] = {(i32)quad.x, (i32)quad.y, (i32)quad.z, (i32)quad.w};
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                multiply_add(sum[0][r + i], low, weight[i]);
                multiply_add(sum[1][r + i], high, weight[i]);
            }
        }
    };
    u32 c = slice;
    for (; c + (AHEAD - 1) * SLICES < args.columns; c += AHEAD * SLICES) {
        u64 x[AHEAD];
#pragma unroll
        for (u32 i = 0; i < AHEAD; i++) x[i] = row(args.input, shape, c + i * SLICES, l)[place];
#pragma unroll
        for (u32 i = 0; i < AHEAD; i++) add(x[i], c + i * SLICES);
    }
#pragma unroll 1
    for (; c < args.columns; c += SLICES) add(row(args.input, shape, c, l)[place], c);
    // The two slices of a warp, then the warps: [piece][row][warp][column].
#pragma unroll
    for (u32 piece = 0; piece < 2; piece++)
#pragma unroll
        for (u32 r = 0; r < ROWS; r++) {
            const i64 both = sum[piece][r] + __shfl_xor_sync(~0u, sum[piece][r], 16);
            if (slice % 2 == 0) shared[((piece * ROWS + r) * (SLICES / 2) + warp) * COLUMNS + column] = both;
        }
    __syncthreads();
    const Limb& limb = shape.limb[shape.id[l]];
    const u32 first = blockIdx.z * ROWS;
    for (u32 r = slice; r < ROWS && first + r < shape.batch; r += SLICES) {
        i64 total[2] = {};
        for (u32 piece = 0; piece < 2; piece++)
            for (u32 w = 0; w < SLICES / 2; w++)
                total[piece] += shared[((piece * ROWS + r) * (SLICES / 2) + w) * COLUMNS + column];
        const i128 value = total[0] + (i128)total[1] * (i64)(1ull << args.piece);
        if (at < n) row(args.out, shape, first + r, l)[at] = reduce_signed(value, limb);
    }
}

KERNEL(arras_matrix_narrow_8, NarrowProductArgs, 256) {
    DYNAMIC_SHARED(i64, shared);
    narrow_product<8>(args, shared);
}

KERNEL(arras_matrix_narrow_16, NarrowProductArgs, 256) {
    DYNAMIC_SHARED(i64, shared);
    narrow_product<16>(args, shared);
}
