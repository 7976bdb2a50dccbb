// Residues to doubles and back, around an exact product of matrices of doubles.
//
// A centred residue is high 2^p + low with |low| <= 2^(p-1) and, for q of at most 2p bits, |high| <= 2^(p-1). If
// columns * 2^(p-1) * max |weight| <= 2^53 every partial sum of a product, in any order and with any fusing of multiplications
// and additions, is an integer that a double holds exactly; the caller checks that.
#include "fast.h"
#include "residue.cuh"

// Grid: rows.
KERNEL(arras_split_pieces, PiecesArgs, 256) {
    const Shape& shape = args.shape;
    const u32 at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >> shape.log_degree) return;
    const u64 q = shape.limb[shape.id[0]].q;
    const i64 half = (i64)1 << (args.piece - 1);
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        const i64 x = centre(row(args.residues, shape, b, 0)[at], q);
        const i64 high = (x + half) >> args.piece, low = x - high * (2 * half);
        double* pieces = args.pieces + ((u64)b << (shape.log_degree + 1)) + at;
        pieces[0] = (double)low;
        pieces[(u64)1 << shape.log_degree] = (double)high;
    }
}

// Grid: rows.
KERNEL(arras_join_pieces, PiecesArgs, 256) {
    const Shape& shape = args.shape;
    const u32 at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >> shape.log_degree) return;
    const Limb& limb = shape.limb[shape.id[0]];
    for (u32 b = blockIdx.z; b < shape.batch; b += gridDim.z) {
        const double* pieces = args.pieces + ((u64)b << (shape.log_degree + 1)) + at;
        const i64 low = (i64)pieces[0], high = (i64)pieces[(u64)1 << shape.log_degree];
        row(args.residues, shape, b, 0)[at] = reduce_signed(low + (i128)high * ((i64)1 << args.piece), limb);
    }
}
