// The inner product of extended digits with both components of an evaluation key.
#include "fast.h"
#include "modular.cuh"

constexpr u32 BATCH = 4;    // polynomials that share what a thread has read of the key

// Grid: x covers N, y the limbs, z the batch in groups of BATCH. Sums of at most 64 products of canonical residues, for
// q < 2^57 (`reduce_wide`).
template <class Form>
DEVICE void gadget_product(const GadgetArgs& args) {
    const Shape& shape = args.shape;
    const u32 at = blockIdx.x * blockDim.x + threadIdx.x, l = blockIdx.y;
    if (at >> shape.log_degree) return;
    const Limb& limb = shape.limb[shape.id[l]];
    const Form form(limb);
    const u64 barrett = Form::barrett(limb);
    const Prepared& right = args.right;
    const u64* key = right.base + right.first * right.entry_stride + ((u64)right.row[l] << shape.log_degree) + at;
    for (u32 first = blockIdx.z * BATCH; first < shape.batch; first += gridDim.z * BATCH) {
        u128 sum[BATCH][2] = {};
        for (u32 k = 0; k < args.terms; k++) {
            const u64* entry = key + k * right.term_stride * right.entry_stride;
            const u64 key0 = entry[0], key1 = entry[right.entry_stride];
            const View left = args.left[k];
#pragma unroll
            for (u32 j = 0; j < BATCH; j++) {
                if (first + j >= shape.batch) break;
                const u64 digit = row(left, shape, first + j, l)[at];
                sum[j][0] += (u128)digit * key0;
                sum[j][1] += (u128)digit * key1;
            }
        }
#pragma unroll
        for (u32 j = 0; j < BATCH; j++) {
            if (first + j >= shape.batch) break;
#pragma unroll
            for (u32 c = 0; c < 2; c++)
                row(args.out[c], shape, first + j, l)[at] =
                    form.reduce_wide((u64)sum[j][c], (u64)(sum[j][c] >> 64), barrett);
        }
    }
}

KERNEL(arras_gadget_product_shifted, GadgetArgs, 256) { gadget_product<Shifted>(args); }
KERNEL(arras_gadget_product_lazy, GadgetArgs, 256) { gadget_product<Lazy>(args); }
