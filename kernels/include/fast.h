// The structures of the fast kernels, mirrored field by field in crates/cuda/src/fast/abi.rs; what abi.h says of itself
// holds here too.
#pragma once

#include "abi.h"

// Twiddle factors of one prime in the order of a decomposition (include/butterfly.cuh).
struct TransformTable {
    const Factor* forward;
    const Factor* inverse;
};
static_assert(sizeof(TransformTable) == 16, "fast/abi.rs");

// What the last stage of an inverse transform multiplies by: s/N for some s, and the same times the twiddle factor of
// that stage. Then `offset` is added.
struct InverseEnd {
    Factor scale, last;
    u64 offset;
    u64 reserved;
};
static_assert(sizeof(InverseEnd) == 48, "fast/abi.rs");

// ntt, intt; `table` and `end` by limb id
struct TransformArgs {
    Shape shape;
    View out, a;
    const TransformTable* table;
    const InverseEnd* end;
};
static_assert(sizeof(TransformArgs) == 232, "fast/abi.rs");

// Twiddle factors of the selected limbs, N to a limb, in the order of a decomposition whose first kernel does `rows`
// stages; 0 if there is one kernel.
struct ArrangeArgs {
    Shape shape;
    Factor* forward;
    Factor* inverse;
    u32 rows;
    u32 reserved;
};
static_assert(sizeof(ArrangeArgs) == 176, "fast/abi.rs");
