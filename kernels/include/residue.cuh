// Residues modulo one prime, and the rows of views. Plain operations, each correct for every q below 2^60.
#pragma once
#include "abi.h"

// The row of limb number l of polynomial b.
DEVICE u64* row(const View& view, const Shape& shape, u32 b, u32 l) {
    if (view.rows) return view.rows[u64(b) * shape.limbs + l];
    return view.base + b * view.batch_stride + l * view.limb_stride;
}

DEVICE u64 multiply_high(u64 a, u64 b) { return __umul64hi(a, b); }

// x - bound unless that is negative: from [0, 2 bound) to [0, bound).
DEVICE u64 reduce_once(u64 x, u64 bound) { return x >= bound ? x - bound : x; }

// floor(x / q), at most two too small: the estimate floor(2^128 / q) is exact to one unit.
DEVICE u64 quotient_estimate(u64 low, u64 high, const Limb& limb) {
    u64 carry = multiply_high(low, limb.barrett_low);
    u128 middle = u128(low) * limb.barrett_high + carry;
    u128 other = u128(high) * limb.barrett_low + u64(middle);
    return high * limb.barrett_high + u64(middle >> 64) + u64(other >> 64);
}

// high 2^64 + low mod q, for any words.
DEVICE u64 reduce(u64 low, u64 high, const Limb& limb) {
    u64 r = low - quotient_estimate(low, high, limb) * limb.q;
    return reduce_once(reduce_once(r, 2 * limb.q), limb.q);
}

DEVICE u64 reduce(u128 x, const Limb& limb) { return reduce(u64(x), u64(x >> 64), limb); }

// The residue of a signed integer.
DEVICE u64 reduce_signed(i128 x, const Limb& limb) {
    u64 r = reduce(x < 0 ? -u128(x) : u128(x), limb);
    return x < 0 && r != 0 ? limb.q - r : r;
}

DEVICE u64 add(u64 a, u64 b, u64 q) { return reduce_once(a + b, q); }
DEVICE u64 sub(u64 a, u64 b, u64 q) { return a >= b ? a - b : a + q - b; }
DEVICE u64 negate(u64 a, u64 q) { return a == 0 ? 0 : q - a; }
DEVICE u64 multiply(u64 a, u64 b, const Limb& limb) { return reduce(u128(a) * b, limb); }

// x w mod q in [0, 2q) for any word x (Harvey, Faster arithmetic for number-theoretic transforms, 2014, section 3).
DEVICE u64 multiply_lazy(u64 x, Factor w, u64 q) { return x * w.value - multiply_high(x, w.quotient) * q; }

// The representative in (-q/2, q/2].
DEVICE i64 centre(u64 x, u64 q) { return x > q / 2 ? i64(x) - i64(q) : i64(x); }

// Notes the place of something that is wrong in the data; the smallest place stays.
DEVICE void report(u64* fault, u64 place) {
    atomicMin(reinterpret_cast<unsigned long long*>(fault), static_cast<unsigned long long>(place));
}
