//! Arithmetic modulo one word-sized prime.

use crate::{Error, Result};

/// An odd modulus of at most [`Modulus::MAX_BITS`] bits with its Barrett constant.
///
/// These are the plain, obviously correct operations: host-side precomputation, shares of keys and the oracle use them, and
/// fast kernels are compared with them. None but [`pow`](Self::pow) and [`inverse`](Self::inverse) branches on a value.
///
/// ```
/// use arras_rns::Modulus;
///
/// let q = Modulus::new(97)?;
/// assert_eq!(q.mul(50, 2), 3);
/// assert_eq!(q.mul(q.inverse(42), 42), 1);
/// // Residues are canonical; `centre` takes them to the signed integers nearest to 0.
/// assert_eq!(q.reduce_signed(-1), 96);
/// assert_eq!(q.centre(96), -1);
/// # Ok::<(), arras_rns::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Modulus {
    value: u64,
    /// floor(2^128 / value), low and high word.
    barrett: [u64; 2],
}

impl Modulus {
    /// Moduli have at most this many bits: four times a residue then fits a word, which lazy butterflies rely on.
    pub const MAX_BITS: u32 = 60;

    /// A modulus `3 <= value < 2^60`, odd. Primality is the business of [`Ring`](crate::Ring).
    ///
    /// # Errors
    /// [`Error::Modulus`] if the value is even or out of range.
    pub fn new(value: u64) -> Result<Self> {
        let reason = match value {
            v if v % 2 == 0 => "is even",
            v if v < 3 => "is below 3",
            v if v >> Self::MAX_BITS != 0 => "has more than 60 bits",
            _ => {
                let quotient = u128::MAX / u128::from(value);
                return Ok(Self { value, barrett: [quotient as u64, (quotient >> 64) as u64] });
            }
        };
        Err(Error::Modulus { modulus: value, degree: 0, reason })
    }

    /// The modulus itself.
    pub const fn value(self) -> u64 {
        self.value
    }

    /// Number of bits of the modulus: the width of a packed residue.
    pub const fn bits(self) -> u32 {
        64 - self.value.leading_zeros()
    }

    /// `x mod q` for any `x`.
    pub const fn reduce(self, x: u128) -> u64 {
        // Barrett: the estimated quotient is at most two short, since floor(2^128/q) is exact to one unit.
        let (x0, x1) = (x as u64 as u128, x >> 64);
        let (m0, m1) = (self.barrett[0] as u128, self.barrett[1] as u128);
        let middle = x0 * m1 + ((x0 * m0) >> 64);
        let carry = x1 * m0 + (middle as u64 as u128);
        let quotient = x1 * m1 + (middle >> 64) + (carry >> 64);
        let r = (x as u64).wrapping_sub((quotient as u64).wrapping_mul(self.value));
        self.reduce_once(self.reduce_once(r))
    }

    /// `x - q` where that is not negative, else `x`.
    const fn reduce_once(self, x: u64) -> u64 {
        let (difference, negative) = x.overflowing_sub(self.value);
        difference.wrapping_add(self.value & mask(negative))
    }

    /// The residue of a signed integer.
    pub const fn reduce_signed(self, x: i128) -> u64 {
        let r = self.reduce(x.unsigned_abs());
        let negative = mask(x < 0);
        (r & !negative) | (self.negate(r) & negative)
    }

    /// `a + b mod q` for canonical `a`, `b`.
    pub const fn add(self, a: u64, b: u64) -> u64 {
        self.reduce_once(a + b)
    }

    /// `a - b mod q` for canonical `a`, `b`.
    pub const fn sub(self, a: u64, b: u64) -> u64 {
        let (difference, negative) = a.overflowing_sub(b);
        difference.wrapping_add(self.value & mask(negative))
    }

    /// `-a mod q` for canonical `a`.
    pub const fn negate(self, a: u64) -> u64 {
        self.reduce_once(self.value - a)
    }

    /// `a * b mod q` for any words `a`, `b`.
    pub const fn mul(self, a: u64, b: u64) -> u64 {
        self.reduce(a as u128 * b as u128)
    }

    /// `base^exponent mod q`.
    pub const fn pow(self, base: u64, mut exponent: u64) -> u64 {
        let (mut base, mut power) = (self.reduce(base as u128), 1);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power = self.mul(power, base);
            }
            base = self.mul(base, base);
            exponent >>= 1;
        }
        power
    }

    /// The inverse of `a` modulo a **prime** `q`; 0 for 0.
    pub const fn inverse(self, a: u64) -> u64 {
        self.pow(a, self.value - 2)
    }

    /// The representative of a canonical residue in `(-q/2, q/2]`; `q` is odd, so there are no ties.
    pub const fn centre(self, a: u64) -> i64 {
        (a as i64).wrapping_sub((self.value & mask(a > self.value / 2)) as i64)
    }

    /// `floor(b * 2^64 / q)` for canonical `b`: the constant of Shoup's multiplication by `b`
    /// (Harvey, *Faster arithmetic for number-theoretic transforms*, 2014).
    pub const fn shoup(self, b: u64) -> u64 {
        (((b as u128) << 64) / self.value as u128) as u64
    }
}

/// All ones or none.
const fn mask(bit: bool) -> u64 {
    (bit as u64).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::Modulus;

    #[test]
    fn barrett_agrees_with_division() {
        for q in [3, 5, 97, (1 << 30) - 35, (1 << 46) - 21, 1_125_899_902_124_033, (1 << 60) - 93] {
            let modulus = Modulus::new(q).unwrap();
            let edge = u128::from(q);
            for x in
                [0, 1, edge - 1, edge, edge * edge - 1, u128::from(u64::MAX), u128::MAX, u128::MAX - edge]
            {
                assert_eq!(u128::from(modulus.reduce(x)), x % edge, "{x} mod {q}");
            }
        }
    }

    #[test]
    fn signs_and_centres() {
        let q = Modulus::new(97).unwrap();
        assert_eq!(q.reduce_signed(-1), 96);
        assert_eq!(q.reduce_signed(i128::MIN), q.negate(q.reduce(1 << 127)));
        assert_eq!((q.centre(48), q.centre(49)), (48, -48));
        assert_eq!(q.mul(q.inverse(42), 42), 1);
    }

    #[test]
    fn sums_and_differences_at_the_edges() {
        for q in [3u64, 97, (1 << 60) - 93] {
            let modulus = Modulus::new(q).unwrap();
            for a in [0, 1, q / 2, q / 2 + 1, q - 1] {
                assert_eq!(modulus.negate(a), (q - a) % q);
                assert_eq!(i128::from(modulus.centre(a)).rem_euclid(i128::from(q)), i128::from(a));
                for b in [0, 1, q / 2, q / 2 + 1, q - 1] {
                    assert_eq!(modulus.add(a, b), (a + b) % q, "{a} + {b} mod {q}");
                    assert_eq!(modulus.sub(a, b), (a + q - b) % q, "{a} - {b} mod {q}");
                }
            }
        }
    }

    #[test]
    fn out_of_range_is_refused() {
        for value in [0, 1, 2, 4, 1 << 60, (1 << 60) + 1, u64::MAX] {
            assert!(Modulus::new(value).is_err(), "{value}");
        }
    }
}
