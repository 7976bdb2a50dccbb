//! The ring Z\[X\]/(X^N + 1) and a chain of primes.

use crate::{Error, LimbSet, Modulus, Result, prime};

/// Smallest degree a ring can have. Only degrees from 2^11 up are of cryptographic use; smaller ones serve tests.
pub const MIN_DEGREE: usize = 1 << 3;
/// Largest degree a ring can have.
pub const MAX_DEGREE: usize = 1 << 17;

/// A degree and a chain of NTT primes. Immutable; every backend derives its own tables from it.
///
/// ```
/// use arras_rns::Ring;
///
/// let ring = Ring::new(16, &[97, 193])?;
/// let (q, root) = (ring.modulus(0), ring.root(0));
/// // A primitive 32nd root of unity: X^16 + 1 has the odd powers of it as its roots.
/// assert_eq!(q.pow(root, 16), q.value() - 1);
///
/// let refused = Ring::new(16, &[101]).unwrap_err();
/// assert_eq!(refused.to_string(), "modulus 101 is not 1 modulo twice the degree (degree 16)");
/// # Ok::<(), arras_rns::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ring {
    degree: usize,
    moduli: Vec<Modulus>,
    roots: Vec<u64>,
}

impl Ring {
    /// A ring of `degree` N with the given distinct primes, each 1 modulo 2N and below 2^60.
    ///
    /// # Errors
    /// [`Error::Degree`], [`Error::Chain`] or [`Error::Modulus`].
    pub fn new(degree: usize, primes: &[u64]) -> Result<Self> {
        if !degree.is_power_of_two() || !(MIN_DEGREE..=MAX_DEGREE).contains(&degree) {
            return Err(Error::Degree { degree });
        }
        if primes.is_empty() || primes.len() > LimbSet::CAPACITY {
            return Err(Error::Chain { count: primes.len() });
        }
        let moduli = primes
            .iter()
            .enumerate()
            .map(|(i, &q)| {
                let refuse = |reason| Err(Error::Modulus { modulus: q, degree, reason });
                match Modulus::new(q) {
                    Err(Error::Modulus { reason, .. }) => refuse(reason),
                    _ if primes[..i].contains(&q) => refuse("occurs twice in the chain"),
                    _ if q % (2 * degree as u64) != 1 => refuse("is not 1 modulo twice the degree"),
                    _ if !prime::is_prime(q) => refuse("is not prime"),
                    other => other,
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let roots = moduli.iter().map(|&q| minimal_root(q, degree)).collect();
        Ok(Self { degree, moduli, roots })
    }

    /// The degree N.
    pub fn degree(&self) -> usize {
        self.degree
    }

    /// log2 of the degree.
    pub fn log_degree(&self) -> u32 {
        self.degree.trailing_zeros()
    }

    /// The moduli of the chain, in order of limb id.
    pub fn moduli(&self) -> &[Modulus] {
        &self.moduli
    }

    /// All limbs of the chain.
    pub fn limbs(&self) -> LimbSet {
        LimbSet::range(0..self.moduli.len())
    }

    /// The modulus of a limb.
    ///
    /// # Panics
    /// If the chain has no such limb; views check their limbs when they are made.
    pub fn modulus(&self, limb: usize) -> Modulus {
        self.moduli[limb]
    }

    /// The numerically smallest primitive 2N-th root of unity modulo the prime of `limb`.
    ///
    /// # Panics
    /// If the chain has no such limb.
    pub fn root(&self, limb: usize) -> u64 {
        self.roots[limb]
    }

    /// log2 of the product of the primes of `limbs`.
    ///
    /// # Panics
    /// If the chain lacks one of them.
    pub fn log_modulus(&self, limbs: LimbSet) -> f64 {
        limbs.iter().map(|limb| (self.moduli[limb].value() as f64).log2()).sum()
    }

    /// The product of the primes of `limbs`, modulo the prime of `limb`.
    ///
    /// # Panics
    /// If the chain lacks one of them.
    pub fn product_mod(&self, limbs: LimbSet, limb: usize) -> u64 {
        let q = self.moduli[limb];
        limbs.iter().fold(1, |product, other| q.mul(product, self.moduli[other].value()))
    }

    /// Powers of the 2N-th root of `limb`, the i-th being `root^bitrev(i)`: the twiddle factors of the forward
    /// transform in the order in which it meets them.
    ///
    /// # Panics
    /// If the chain has no such limb.
    pub fn twiddles(&self, limb: usize) -> Vec<u64> {
        self.bit_reversed_powers(limb, self.roots[limb])
    }

    /// The inverses of [`twiddles`](Self::twiddles), element by element.
    ///
    /// # Panics
    /// If the chain has no such limb.
    pub fn inverse_twiddles(&self, limb: usize) -> Vec<u64> {
        self.bit_reversed_powers(limb, self.moduli[limb].inverse(self.roots[limb]))
    }

    fn bit_reversed_powers(&self, limb: usize, root: u64) -> Vec<u64> {
        let (q, shift) = (self.moduli[limb], usize::BITS - self.log_degree());
        let mut powers = vec![0; self.degree];
        let mut power = 1;
        for i in 0..self.degree {
            powers[i.reverse_bits() >> shift] = power;
            power = q.mul(power, root);
        }
        powers
    }
}

/// The smallest primitive 2N-th root of unity modulo `q`: Microsoft SEAL's choice, so that tables and ciphertexts of
/// the two agree.
fn minimal_root(q: Modulus, degree: usize) -> u64 {
    let order = 2 * degree as u64;
    // A random element raised to (q-1)/2N has order 2N exactly when its N-th power is -1: every second one does.
    let root = (2..)
        .map(|g| q.pow(g, (q.value() - 1) / order))
        .find(|&root| q.pow(root, degree as u64) == q.value() - 1)
        .unwrap_or(1);
    let square = q.mul(root, root);
    std::iter::successors(Some(root), |&power| Some(q.mul(power, square))).take(degree).min().unwrap_or(root)
}

#[cfg(test)]
mod tests {
    use super::{MAX_DEGREE, Ring};
    use crate::{Error, LimbSet};

    #[test]
    fn roots_are_primitive_and_minimal() {
        let ring = Ring::new(16, &[97, 193]).unwrap();
        for limb in 0..2 {
            let q = ring.modulus(limb);
            let primitive: Vec<u64> = (1..q.value()).filter(|&x| q.pow(x, 16) == q.value() - 1).collect();
            assert_eq!(ring.root(limb), primitive[0]);
        }
        assert_eq!(ring.product_mod(LimbSet::single(0), 1), 97);
        assert!((ring.log_modulus(ring.limbs()) - (97.0f64 * 193.0).log2()).abs() < 1e-12);
    }

    #[test]
    fn bad_rings_are_refused_with_a_reason() {
        let reason = |degree, primes: &[u64]| match Ring::new(degree, primes) {
            Err(Error::Modulus { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(16, &[97, 97]), "occurs twice in the chain");
        assert_eq!(reason(16, &[101]), "is not 1 modulo twice the degree");
        assert_eq!(reason(16, &[33]), "is not prime");
        assert_eq!(reason(16, &[98]), "is even");
        for degree in [0, 4, 12, 2 * MAX_DEGREE] {
            assert_eq!(Ring::new(degree, &[97]), Err(Error::Degree { degree }));
        }
        assert_eq!(Ring::new(16, &[]), Err(Error::Chain { count: 0 }));
    }
}
