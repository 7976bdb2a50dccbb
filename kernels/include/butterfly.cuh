// Passes of a number-theoretic transform over 16 values in registers.
//
// A pass does up to four consecutive stages. The registers of a thread are 16 / 2^STAGES groups of 2^STAGES values, and
// butterflies join values of one group. A stage j of a group has 2^j twiddle factors. Recursion over templates, not loops:
// register arrays must be indexed by constants.
#pragma once

#include "modular.cuh"

// Where the twiddle factors of a pass lie, so that neighbouring threads read neighbouring factors.
//
// The transform has done BEFORE stages before this pass (counted as in the forward direction). The factor of stage j of
// the pass, number u of the 2^j, for group g of the thread whose groups have the block numbers H GROUPS + g at the level
// of 2^BEFORE blocks, stands at
//
//     2^BEFORE (2^j + u) + g 2^BEFORE / GROUPS + H
//
// In the order of powers it is number 2^(BEFORE + j) + (H GROUPS + g) 2^j + u. Both orders run over
// 2^BEFORE .. 2^(BEFORE + STAGES), so that the passes of a transform fill a table of N factors (of which number 0 is
// not used).
template <int STAGES, int BEFORE>
struct Twiddles {
    static constexpr u32 GROUPS = VALUES >> STAGES;
    static_assert(GROUPS <= (1u << BEFORE), "the first pass has four stages");

    // From the entry of a thread, which is number H.
    static __host__ METHOD constexpr u32 offset(u32 j, u32 u, u32 g) {
        return (((1u << j) + u) << BEFORE) + g * ((1u << BEFORE) / GROUPS);
    }
};

// Forward pass: strides fall from 2^(STAGES-1) to 1. `factors` points to the entry of the thread.
template <class Form, int STAGES, int BEFORE, int J = 0>
DEVICE void forward_pass(const Form& form, typename Form::Word (&x)[VALUES], const typename Form::Factor* factors) {
    if constexpr (J < STAGES) {
        constexpr u32 STRIDE = 1u << (STAGES - 1 - J), BLOCKS = VALUES / (2 * STRIDE);
#pragma unroll
        for (u32 block = 0; block < BLOCKS; block++) {
            const u32 group = block >> J, u = block & ((1u << J) - 1);
            const typename Form::Factor w = factors[Twiddles<STAGES, BEFORE>::offset(J, u, group)];
#pragma unroll
            for (u32 i = 0; i < STRIDE; i++) {
                const u32 low = 2 * STRIDE * block + i;
                form.forward(x[low], x[low + STRIDE], w);
            }
        }
        forward_pass<Form, STAGES, BEFORE, J + 1>(form, x, factors);
    }
}

// Inverse pass: strides rise from 1 to 2^(STAGES-1). From canonical values, or what `between_passes` gives, to values in
// the ranges of `inverse`. With `LAST`, the final stage of the transform (which has one block, so STAGES is 4)
// multiplies by the factors `scale` and `last` of `end` and leaves values in the range of `canonical_product`.
template <class Form, int STAGES, int BEFORE, bool LAST, int J = STAGES - 1, class End>
DEVICE void inverse_pass(const Form& form, typename Form::Word (&x)[VALUES], const typename Form::Factor* factors,
                         const End* end) {
    if constexpr (J >= 0) {
        constexpr u32 STRIDE = 1u << (STAGES - 1 - J), BLOCKS = VALUES / (2 * STRIDE);
        constexpr bool END = LAST && J == 0;
#pragma unroll
        for (u32 block = 0; block < BLOCKS; block++) {
            const u32 group = block >> J, u = block & ((1u << J) - 1);
            const typename Form::Factor w = END ? end->last : factors[Twiddles<STAGES, BEFORE>::offset(J, u, group)];
#pragma unroll
            for (u32 i = 0; i < STRIDE; i++) {
                const u32 low = 2 * STRIDE * block + i;
                if constexpr (END)
                    form.template inverse_last<STAGES - 1 - J>(x[low], x[low + STRIDE], end->scale, w);
                else
                    form.template inverse<STAGES - 1 - J>(x[low], x[low + STRIDE], w);
            }
        }
        inverse_pass<Form, STAGES, BEFORE, LAST, J - 1>(form, x, factors, end);
    }
}

// Between two passes of an inverse transform: brings back into range what the stages have let grow. The upper half of
// each group are products, in range already.
template <class Form, int STAGES>
DEVICE void between_inverse_passes(const Form& form, typename Form::Word (&x)[VALUES]) {
#pragma unroll
    for (u32 r = 0; r < VALUES; r++)
        if (!(r >> (STAGES - 1) & 1)) x[r] = form.between_passes(x[r]);
}
