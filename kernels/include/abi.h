// The structures that Rust passes to kernels, mirrored field by field in crates/cuda/src/abi.rs. Both sides assert the sizes, and the hash
// of this file is compared when images are loaded: after a change, the test of the hash says what to write into abi.rs.
#pragma once
#include "platform.h"

// Most limbs of a chain: LimbSet::CAPACITY.
constexpr u32 LIMBS = 128;

// A constant factor w with floor(w 2^64 / q), canonical.
struct alignas(16) Factor {
    u64 value;
    u64 quotient;
};

// Constants of one prime q of the ring. q is odd, below 2^60, and 1 modulo 2N.
struct alignas(16) Limb {
    u64 q;
    u64 barrett_low;         // floor(2^128 / q), low word
    u64 barrett_high;        // and high word
    u64 negative_inverse;    // -q^-1 mod 2^64
    u64 montgomery_one;      // 2^64 mod q
    u64 montgomery_square;   // 2^128 mod q
    Factor degree_inverse;   // 1/N
    const Factor* forward;   // N factors: root^bitrev(i), of block i - m at the level of m blocks
    const Factor* inverse;   // their inverses, at the same places
    u32 bits;                // of q
    u32 shifted;             // c if q = c 2^32 + 1, else 0
    u64 reserved;
};
static_assert(sizeof(Factor) == 16 && sizeof(Limb) == 96, "abi.rs");

// Rows of N words. Row of limb number l (counted within the selection) of polynomial b:
// rows[b * limbs + l] if there is a table, else base + b * batch_stride + l * limb_stride.
struct View {
    u64* base;
    u64* const* rows;
    u64 batch_stride;
    u64 limb_stride;
};
static_assert(sizeof(View) == 32, "abi.rs");

// What every kernel of the ring is told: the constants by limb id, and which limbs are selected, in ascending order.
struct Shape {
    const Limb* limb;
    u32 log_degree;
    u32 limbs;    // selected ones; limb number l has id id[l]
    u32 batch;
    u32 reserved;
    u8 id[LIMBS];
};
static_assert(sizeof(Shape) == 152, "abi.rs");

// copy, add, sub, negate, multiply, multiply_accumulate, ntt, intt
struct PointwiseArgs {
    Shape shape;
    View out, a, b;
};
static_assert(sizeof(PointwiseArgs) == 248, "abi.rs");

// out = a * scalar + b; without b if its base and rows are null
struct ScaleArgs {
    Shape shape;
    View out, a, b;
    u64 reserved;
    Factor scalar[LIMBS];    // of limb number l
};
static_assert(sizeof(ScaleArgs) == 2304, "abi.rs");

// One stage of a transform in place: 2^log_half values between the two inputs of a butterfly.
struct StageArgs {
    Shape shape;
    View out;
    u32 log_half;
    u32 last;    // whether values become canonical (and 1/N is multiplied in) after it
};
static_assert(sizeof(StageArgs) == 192, "abi.rs");

// X -> X^element
struct AutomorphismArgs {
    Shape shape;
    View out, a;
    u32 element;
    u32 evaluation;    // whether the rows hold values rather than coefficients
};
static_assert(sizeof(AutomorphismArgs) == 224, "abi.rs");

// The shape selects the target limbs. Rows of `input` are those of the source limbs.
struct ConvertArgs {
    Shape shape;
    View out, input;
    const Factor* scale;    // (Q/q_i)^-1 mod q_i for each source limb
    const u64* weights;     // Q/q_i mod p: [target][source]
    u32 sources;
    u32 reserved;
    u8 source[LIMBS];    // ids
};
static_assert(sizeof(ConvertArgs) == 368, "abi.rs");

// Prepared polynomials: entry e, limb number l at base + e * entry_stride + row[l] * N words.
struct Prepared {
    const u64* base;
    u64 entry_stride;    // words
    u64 first;           // entry of term 0 and polynomial 0
    u64 term_stride;     // entries
    u64 batch_stride;    // entries
    u8 row[LIMBS];
};
static_assert(sizeof(Prepared) == 168, "abi.rs");

// out = sum_k left[k] * right(k)
struct InnerProductArgs {
    Shape shape;
    View out;
    const View* left;
    u64 terms;
    Prepared right;
};
static_assert(sizeof(InnerProductArgs) == 368, "abi.rs");

// out[r] = sum_c entries[r][c] * input[c]; the batch of the shape is the number of rows
struct MatrixProductArgs {
    Shape shape;
    View out, input;
    const i64* entries;
    u32 columns;
    u32 terms;    // products that add up below 2^127
};
static_assert(sizeof(MatrixProductArgs) == 232, "abi.rs");

// Coefficient i < count of polynomial b is value first + b * batch_stride + i * coefficient_stride, times 2^scale_bits.
struct QuantiseArgs {
    Shape shape;
    View out;
    const u64* values;
    u64 first, batch_stride, coefficient_stride, count;
    u64* fault;    // smallest b * count + i of a value out of range
    i32 scale_bits;
    u32 reserved;
};
static_assert(sizeof(QuantiseArgs) == 240, "abi.rs");

// The 52 bytes of a seed expansion's message that come before the prime, one per polynomial.
struct SeedMessage {
    u32 word[13];
    u32 reserved[3];
};
static_assert(sizeof(SeedMessage) == 64, "abi.rs");

struct ExpandArgs {
    Shape shape;
    View out;
    const SeedMessage* message;
};
static_assert(sizeof(ExpandArgs) == 192, "abi.rs");

// Row r, limb number l starts at byte r * row_bytes + offset[l]. Rows are polynomials, or coefficients if `transposed`.
struct UnpackArgs {
    Shape shape;
    View out;
    const u8* packed;
    u64 row_bytes;
    u64* fault;         // smallest ((row * limbs + l) << 32) + place in the row
    u32 coefficients;
    u32 transposed;
    u64 offset[LIMBS];
};
static_assert(sizeof(UnpackArgs) == 1240, "abi.rs");

// Positions first, first + step, ... of each polynomial to `bits` bits each, packed in rows of row_bytes bytes.
struct TrimArgs {
    Shape shape;
    View input;
    u8* packed;
    u64 row_bytes;
    u32 bits;
    u32 first, step, count;
};
static_assert(sizeof(TrimArgs) == 216, "abi.rs");
