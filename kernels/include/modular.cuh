// Arithmetic modulo one word-sized prime, in the forms that the fast kernels choose between.
//
// A form is a class with the modulus and its constants in registers:
//
//   Shifted  q = c 2^32 + 1 with 1 < c < 2^25: a product with q is one 32-bit product and a shift; three-product quotient
//   Lazy     any odd q < 2^57: three-product quotient
//   Harvey   any odd q < 2^60 (u64) or q < 2^30 (u32): exact quotient, values corrected at each butterfly
//
// Ranges are stated as multiples of q at each function. Shoup's product: D. Harvey, Faster arithmetic for
// number-theoretic transforms, 2014, section 3. Montgomery's: P. Montgomery, Modular multiplication without trial
// division, 1985.
#pragma once

#include "fast.h"
#include "residue.cuh"

// A constant factor w with floor(w 2^B / q), B the bits of the word.
template <class Word>
struct FactorOf;
template <>
struct FactorOf<u64> {
    typedef Factor type;
};
template <>
struct FactorOf<u32> {
    typedef Factor32 type;
};

DEVICE u32 high_product(u32 x, u32 y) { return __umulhi(x, y); }
DEVICE u64 high_product(u64 x, u64 y) { return __umul64hi(x, y); }

// The high word of x y, at most 2 short: the product of the low halves and the carries of the middle ones are left out.
DEVICE u64 high_product_short(u64 x, u64 y) {
    const u32 x0 = (u32)x, x1 = (u32)(x >> 32), y0 = (u32)y, y1 = (u32)(y >> 32);
    return (u64)x1 * y1 + __umulhi(x1, y0) + __umulhi(x0, y1);
}

// From [0, 2 bound) to [0, bound), for bound < 2^63: what became negative is corrected, which needs one comparison less
// than `reduce_once`.
DEVICE u64 correct(u64 x, u64 bound) {
    const u64 y = x - bound;
    return (i64)y < 0 ? y + bound : y;
}
DEVICE u32 correct(u32 x, u32 bound) { return min(x, x - bound); }

// What Shifted and Lazy share: butterflies without corrections. `Self` gives `multiple<k>()`, k q for a constant k, and
// `times_modulus(h)`, h q mod 2^64.
template <class Self>
struct Uncorrected {
    typedef u64 Word;
    typedef ::Factor Factor;

    // x w mod q in [0, 4q) for any word x: the quotient is at most 2 short, and another 1 by Shoup's argument.
    METHOD u64 multiply_lazy(u64 x, Factor w) const {
        return x * w.value - self().times_modulus(high_product_short(x, w.quotient));
    }

    // From x < 124q to [0, 2q). With s = max(0, bits of q - 25) or any s such that x < 2^(32 + s) and 2^s < q/2, the estimate
    // floor(floor(x / 2^s) floor(2^(32 + s) / q) / 2^32) is never above x/q, and short of it by less than
    // 1 + 2^s / q + x / 2^(32 + s) < 2, as 124q < 0.97 2^(32 + s).
    METHOD u64 reduce_lazy(u64 x) const {
        const u32 k = __umulhi((u32)(x >> self().shift()), self().reciprocal);
        return x - self().times_modulus(k);
    }

    // From x < 124q to [0, q).
    METHOD u64 canonical(u64 x) const { return correct(reduce_lazy(x), self().q()); }

    // From x < 4q to [0, q).
    METHOD u64 canonical_product(u64 x) const {
        return correct(correct(x, self().template multiple<2>()), self().q());
    }

    // From p = high 2^64 + low < 2^(63 + n), n the bits of q, to [0, q): 64 products of a canonical residue with one below
    // q are in range, as is one with a lazy value. Barrett: with h = floor(p / 2^(n-1)) < 2^64 the quotient
    // floor(h barrett / 2^64) is at most 5 short.
    METHOD u64 reduce_wide(u64 low, u64 high, u64 barrett) const {
        const u64 quotient = high_product_short(self().leading(low, high), barrett);
        return canonical(low - self().times_modulus(quotient));
    }
    // floor(2^(63 + n) / q), for `reduce_wide`.
    static METHOD u64 barrett(const Limb& limb) {
        return limb.barrett_high << (limb.bits - 1) | limb.barrett_low >> (65 - limb.bits);
    }

    // Cooley and Tukey's butterfly: from x < aq and any y to x, y < (a + 4) q. With canonical inputs, values stay
    // below (1 + 4s) q after s stages: 69q < 2^64 for s = 17.
    METHOD void forward(u64& x, u64& y, Factor w) const {
        const u64 t = multiply_lazy(y, w);
        y = x - t + self().template multiple<4>();
        x = x + t;
    }

    // Gentleman and Sande's butterfly, stage J of a pass: from x, y < (4 << J) q to x < (8 << J) q and y < 4q. With at most
    // four stages to a pass, 64q < 2^64.
    template <int J>
    METHOD void inverse(u64& x, u64& y, Factor w) const {
        const u64 difference = x - y + self().template multiple<(4 << J)>();
        x = x + y;
        y = multiply_lazy(difference, w);
    }

    // The last butterfly of an inverse transform: both outputs multiplied, below 4q.
    template <int J>
    METHOD void inverse_last(u64& x, u64& y, Factor scale, Factor last) const {
        const u64 sum = x + y, difference = x - y + self().template multiple<(4 << J)>();
        x = multiply_lazy(sum, scale);
        y = multiply_lazy(difference, last);
    }

    // What a pass of an inverse transform leaves, back below 4q.
    METHOD u64 between_passes(u64 x) const { return reduce_lazy(x); }

  private:
    METHOD const Self& self() const { return static_cast<const Self&>(*this); }
};

struct Lazy : Uncorrected<Lazy> {
    static constexpr bool LEAN = false;
    u64 modulus;
    u32 reciprocal, bits;

    METHOD Lazy(const Limb& limb) : modulus(limb.q), bits(limb.bits) {
        reciprocal = (u32)(limb.barrett_high >> (32 - shift()));
    }
    METHOD u64 q() const { return modulus; }
    METHOD u32 shift() const { return bits > 25 ? bits - 25 : 0; }
    METHOD u64 leading(u64 low, u64 high) const { return high << (65 - bits) | low >> (bits - 1); }
    template <u32 K>
    METHOD u64 multiple() const {
        return K * modulus;
    }
    METHOD u64 times_modulus(u64 h) const { return h * modulus; }
    METHOD u64 times_modulus(u32 h) const { return h * modulus; }
};

struct Shifted : Uncorrected<Shifted> {
    static constexpr bool LEAN = true;    // few registers for the modulus
    u32 c, reciprocal, bits;

    METHOD Shifted(const Limb& limb) : c(limb.shifted), reciprocal((u32)limb.barrett_high), bits(limb.bits) {}
    METHOD u64 q() const { return multiple<1>(); }
    // Not the shift of Lazy: the high word of x costs nothing, and 2^32 < q/2.
    METHOD u32 shift() const { return 32; }
    // q has at least 34 bits: two shifts of neighbouring words.
    METHOD u64 leading(u64 low, u64 high) const {
        const u32 first = (u32)((high << 32 | low >> 32) >> (bits - 33)), second = (u32)(high >> (bits - 33));
        return (u64)second << 32 | first;
    }
    template <u32 K>
    METHOD u64 multiple() const {
        return (u64)(K * c) << 32 | K;
    }
    METHOD u64 times_modulus(u64 h) const { return h + ((u64)((u32)h * c) << 32); }
    METHOD u64 times_modulus(u32 h) const { return h + ((u64)(h * c) << 32); }
};

// Harvey's butterflies; forward values below 4q, inverse ones below 2q.
template <class W>
struct Harvey {
    typedef W Word;
    typedef typename FactorOf<W>::type Factor;
    static constexpr bool LEAN = false;

    W modulus;

    METHOD Harvey(const Limb& limb) : modulus((W)limb.q) {}
    METHOD W q() const { return modulus; }

    // x w mod q in [0, 2q) for any word x.
    METHOD W multiply_lazy(W x, Factor w) const { return x * w.value - high_product(x, w.quotient) * modulus; }

    // From x < 4q to [0, modulus).
    METHOD W canonical(W x) const { return correct(correct(x, 2 * modulus), modulus); }

    // From x < 2q to [0, modulus).
    METHOD W canonical_product(W x) const { return correct(x, modulus); }

    // From x < 4q and any y to x, y < 4q.
    METHOD void forward(W& x, W& y, Factor w) const {
        const W even = correct(x, 2 * modulus), odd = multiply_lazy(y, w);
        x = even + odd;
        y = even - odd + 2 * modulus;
    }

    // From x, y < 2q to x, y < 2q.
    template <int>
    METHOD void inverse(W& x, W& y, Factor w) const {
        const W difference = x - y + 2 * modulus;
        x = correct(x + y, 2 * modulus);
        y = multiply_lazy(difference, w);
    }

    // From x, y < 2q to x, y < 2q, both multiplied.
    template <int>
    METHOD void inverse_last(W& x, W& y, Factor scale, Factor last) const {
        const W sum = x + y, difference = x - y + 2 * modulus;
        x = multiply_lazy(sum, scale);
        y = multiply_lazy(difference, last);
    }

    METHOD W between_passes(W x) const { return x; }
};
