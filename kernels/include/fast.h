// The structures of the fast kernels, mirrored field by field in crates/cuda/src/fast/abi.rs; what abi.h says of itself
// holds here too.
#pragma once

#include "abi.h"

// A member function; DEVICE is for free functions.
#define METHOD __device__ __forceinline__

// Launch shape of a tile of 2^bits values (fast/transform.rs): so many values in the registers of a thread, and a word of padding to as
// many in shared memory.
constexpr u32 VALUES = 16;
constexpr u32 tile_threads(u32 bits) { return (1u << bits) / VALUES; }
constexpr u32 tile_words(u32 bits) { return (1u << bits) + (1u << bits) / VALUES; }

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

// A constant factor w of 32-bit words with floor(w 2^32 / q).
struct alignas(8) Factor32 {
    u32 value, quotient;
};
static_assert(sizeof(Factor32) == 8, "fast/abi.rs");

// The transform of rows of 2^11 to 2^13 32-bit words, one after the other, modulo one prime below 2^30. `table` has N factors in the order of
// Twiddles; `scale` and `last` are those of InverseEnd.
struct Transform32Args {
    const u32* from;
    u32* to;
    const Factor32* table;
    Factor32 scale, last;
    u32 modulus;
    u32 log_degree;
    u32 batch;
    u32 reserved;
};
static_assert(sizeof(Transform32Args) == 56, "fast/abi.rs");

// Base conversion and the transform of its result, and with `kept` a division by dropped primes. `digits` holds the digits
// of docs/arithmetic.md, moved to [0, q_i) by adding (q_i - 1)/2, as an inverse transform with `offset` leaves them; its rows
// are those of the source limbs. The shape selects the target limbs; what is by target counts them within the selection.
struct ExtendArgs {
    Shape shape;
    View out, kept, digits;
    const TransformTable* table;    // by limb id
    const Factor* weights;          // Q/q_i mod p: [target][source]
    const u64* start;               // - sum_i (q_i - 1)/2 Q/q_i mod p, by target
    const Factor* scale;            // P^-1, by target; for the division
    u32 sources;
    u32 reserved;
};
static_assert(sizeof(ExtendArgs) == 288, "fast/abi.rs");

// Both components of a gadget product: out[c] = sum_k left[k] * right(k, c), whose entries for c = 1 come after those for 0.
struct GadgetArgs {
    Shape shape;
    View out[2];
    const View* left;
    u64 terms;
    Prepared right;
};
static_assert(sizeof(GadgetArgs) == 400, "fast/abi.rs");

// out[r] = sum_c weights[r][c] * input[c] for few or small integers; the batch of the shape is the number of rows. Weights
// stand [tile][column][row of the tile], padded with zero rows.
struct NarrowProductArgs {
    Shape shape;
    View out, input;
    const i32* weights;
    u32 columns;
    u32 piece;    // bits of the lower piece of a residue
};
static_assert(sizeof(NarrowProductArgs) == 232, "fast/abi.rs");

// Residues as two pieces of doubles and back, one limb (the only one selected) at a time: polynomial b at
// pieces + 2 b N, its lower pieces first.
struct PiecesArgs {
    Shape shape;
    View residues;
    double* pieces;
    u32 piece;    // bits of the lower piece
    u32 reserved;
};
static_assert(sizeof(PiecesArgs) == 200, "fast/abi.rs");

// Residues of secret values of the ChaCha20 stream of a key, `count` to a polynomial. All coefficients are below 2^31 in number.
struct SampleArgs {
    Shape shape;
    View out;
    u32 key[8];
    u32 count;
    u32 reserved;
};
static_assert(sizeof(SampleArgs) == 224, "fast/abi.rs");

// Bounds on rows of features. `found` has two words: the first row beyond a bound, and the bits of the largest norm.
struct FeatureArgs {
    const double* values;
    u64* found;
    u64 rows, dimension;
    double x_max, norm_max;
};
static_assert(sizeof(FeatureArgs) == 48, "fast/abi.rs");
