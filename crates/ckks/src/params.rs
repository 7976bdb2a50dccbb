//! Parameter sets.

use std::sync::Arc;

use arras_rns::{LimbSet, Ring};
use arras_wire::frame::Fingerprint;

use crate::{Error, Result, Security, bytes};

/// What a parameter set is made of.
///
/// See the example of [`Params`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// Ring degree N, a power of two.
    pub degree: usize,
    /// The primes of Q. Level l uses the first l + 1 of them.
    pub moduli: Vec<u64>,
    /// The special primes P of hybrid key switching; empty if there are no evaluation keys.
    pub special: Vec<u64>,
    /// Into how many digits Q is cut for key switching; digit i takes `ceil(len(moduli) / digits)` primes.
    pub digits: usize,
    /// log2 of the scale at which data are encoded.
    pub scale_bits: u32,
    /// The policy that bounds log2(QP).
    pub security: Security,
}

/// A validated parameter set. Cheap to clone.
///
/// ```
/// use arras_ckks::{Params, Security, Spec};
/// use arras_rns::prime::ntt_primes;
///
/// // Three primes in a digit each, and a special prime that is no smaller.
/// let primes = ntt_primes(50, 8192, 4, &[])?;
/// let (special, moduli) = (vec![primes[0]], primes[1..].to_vec());
/// let security = Security::Classical128;
/// let spec = Spec { degree: 8192, moduli, special, digits: 3, scale_bits: 40, security };
/// let params = Params::new(spec.clone())?;
/// assert_eq!((params.max_level(), params.digit_limbs().len()), (2, 3));
///
/// let refused = Params::new(Spec { degree: 4096, ..spec }).unwrap_err();
/// assert!(refused.to_string().starts_with("parameters: log2(QP) = 200.0 at degree 4096 exceeds 106"));
/// # Ok::<(), arras_ckks::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Params(Arc<Inner>);

#[derive(PartialEq, Eq, Debug)]
struct Inner {
    spec: Spec,
    ring: Ring,
    fingerprint: Fingerprint,
}

impl Params {
    /// Validates a parameter set.
    ///
    /// # Errors
    /// [`Error::Insecure`] if Q times P is larger than the policy allows, [`Error::Params`] if another field is
    /// impossible (the special primes smaller than the largest digit, say), and whatever [`Ring::new`] refuses.
    pub fn new(spec: Spec) -> Result<Self> {
        if spec.security == Security::Unchecked {
            return Err(Error::Params {
                field: "security",
                problem: "is unchecked: use Params::insecure".into(),
            });
        }
        Self::validate(spec)
    }

    /// A parameter set without any promise of security, to test with or to compare with other libraries.
    ///
    /// # Errors
    /// As [`Params::new`], except for the size of the modulus.
    pub fn insecure(spec: Spec) -> Result<Self> {
        Self::validate(Spec { security: Security::Unchecked, ..spec })
    }

    pub(crate) fn validate(spec: Spec) -> Result<Self> {
        let refuse = |field, problem| Err(Error::Params { field, problem });
        if spec.moduli.is_empty() {
            return refuse("moduli", "is empty".into());
        }
        let chain: Vec<u64> = spec.moduli.iter().chain(&spec.special).copied().collect();
        let ring = Ring::new(spec.degree, &chain)?;
        let log_qp = ring.log_modulus(ring.limbs());
        let limit = spec.security.limit(spec.degree).unwrap_or(0);
        if log_qp > f64::from(limit) {
            return Err(Error::Insecure { log_qp, degree: spec.degree, limit, policy: spec.security.name() });
        }
        if !(1..=spec.moduli.len()).contains(&spec.digits) {
            return refuse("digits", format!("is {}, expected 1 to {}", spec.digits, spec.moduli.len()));
        }
        let log_q = ring.log_modulus(LimbSet::range(0..spec.moduli.len()));
        if spec.scale_bits == 0 || spec.scale_bits >= 60 {
            return refuse("scale_bits", format!("is {}, expected 1 to 59", spec.scale_bits));
        }
        if f64::from(spec.scale_bits) > log_q - 1.0 {
            return refuse("scale_bits", format!("is {}, but Q has only {log_q:.1} bits", spec.scale_bits));
        }
        let fingerprint = Fingerprint(*blake3::hash(&bytes::encode_spec(&spec)).as_bytes());
        let params = Self(Arc::new(Inner { spec, ring, fingerprint }));
        params.check_special()?;
        Ok(params)
    }

    /// P below the largest digit would let the noise of key switching grow with the message.
    fn check_special(&self) -> Result<()> {
        if self.spec().special.is_empty() {
            return Ok(());
        }
        let largest =
            self.digit_limbs().into_iter().map(|digit| self.ring().log_modulus(digit)).fold(0.0, f64::max);
        let special_bits = self.ring().log_modulus(self.special_limbs());
        if special_bits < largest {
            return Err(arras_rns::Error::SpecialTooSmall { special_bits, digit_bits: largest }.into());
        }
        Ok(())
    }

    /// What the set is made of.
    pub fn spec(&self) -> &Spec {
        &self.0.spec
    }

    /// The ring: the primes of Q, then those of P.
    pub fn ring(&self) -> &Ring {
        &self.0.ring
    }

    /// 32 bytes that stand for this set in files.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// Ring degree N.
    pub fn degree(&self) -> usize {
        self.0.spec.degree
    }

    /// The highest level: one less than the number of primes in Q.
    pub fn max_level(&self) -> usize {
        self.0.spec.moduli.len() - 1
    }

    /// The limbs of Q at a level (cut off at the highest).
    pub fn limbs_at(&self, level: usize) -> LimbSet {
        LimbSet::range(0..level.min(self.max_level()) + 1)
    }

    /// All limbs of Q.
    pub fn limbs(&self) -> LimbSet {
        self.limbs_at(self.max_level())
    }

    /// The limbs of P.
    pub fn special_limbs(&self) -> LimbSet {
        self.ring().limbs().difference(self.limbs())
    }

    /// The limbs of each digit of Q.
    pub fn digit_limbs(&self) -> Vec<LimbSet> {
        let count = self.0.spec.moduli.len();
        let width = count.div_ceil(self.0.spec.digits);
        (0..count).step_by(width).map(|start| LimbSet::range(start..count.min(start + width))).collect()
    }

    /// The limbs of each digit at a level: what is left of [`digit_limbs`](Self::digit_limbs), without empty digits.
    pub fn digits_at(&self, level: usize) -> Vec<LimbSet> {
        let limbs = self.limbs_at(level);
        let left = self.digit_limbs().into_iter().map(|digit| digit.intersection(limbs));
        left.filter(|digit| !digit.is_empty()).collect()
    }

    /// The limbs of an evaluation key for a level: those of Q at that level, and those of P.
    pub fn key_limbs(&self, level: usize) -> LimbSet {
        self.limbs_at(level).union(self.special_limbs())
    }

    /// log2(Q) at a level.
    pub fn log_modulus(&self, level: usize) -> f64 {
        self.ring().log_modulus(self.limbs_at(level))
    }

    /// The scale at which data are encoded.
    pub fn scale(&self) -> f64 {
        (1u64 << self.0.spec.scale_bits) as f64
    }
}

#[cfg(test)]
mod tests {
    use arras_rns::prime::ntt_primes;

    use super::{Params, Spec};
    use crate::{Error, Security};

    fn spec(degree: usize, bits: &[u32], special: &[u32]) -> Spec {
        let mut taken = Vec::new();
        let mut prime = |&bits: &u32| {
            let q = ntt_primes(bits, degree, 1, &taken).unwrap()[0];
            taken.push(q);
            q
        };
        // The special primes first: they have to be the largest of their size.
        let special = special.iter().map(&mut prime).collect();
        let moduli: Vec<u64> = bits.iter().map(&mut prime).collect();
        let digits = moduli.len();
        Spec { degree, moduli, special, digits, scale_bits: 20, security: Security::Classical128 }
    }

    #[test]
    fn the_table_counts_special_primes() {
        assert!(Params::new(spec(2048, &[50], &[])).is_ok());
        assert!(Params::new(spec(8192, &[50, 46, 46], &[50])).is_ok());
        let refused = Params::new(spec(4096, &[40, 36], &[40])).unwrap_err();
        assert!(matches!(refused, Error::Insecure { limit: 106, degree: 4096, .. }), "{refused}");
        assert!(refused.to_string().contains("exceeds 106"), "{refused}");
        assert!(Params::insecure(spec(4096, &[40, 36], &[40])).is_ok());
        assert!(matches!(Params::new(spec(1024, &[25], &[])), Err(Error::Insecure { .. })));
    }

    #[test]
    fn small_special_primes_are_refused() {
        let error = Params::new(spec(8192, &[50, 46], &[40])).unwrap_err();
        assert!(error.to_string().contains("smaller than the largest digit"), "{error}");
    }

    #[test]
    fn every_field_changes_the_fingerprint() {
        let base = spec(8192, &[50, 46], &[50]);
        let changed = [
            Spec { scale_bits: 21, ..base.clone() },
            Spec { digits: 1, special: vec![], ..base.clone() },
            Spec { moduli: base.moduli[..1].to_vec(), digits: 1, ..base.clone() },
            Spec { security: Security::Standard2018, ..base.clone() },
        ];
        let mut prints: Vec<_> =
            changed.into_iter().map(|s| Params::new(s).unwrap().fingerprint().0).collect();
        prints.push(Params::new(base).unwrap().fingerprint().0);
        prints.sort_unstable();
        prints.dedup();
        assert_eq!(prints.len(), 5);
    }

    #[test]
    fn impossible_fields_are_named() {
        let base = spec(8192, &[50, 46], &[]);
        for (field, bad) in [
            ("moduli", Spec { moduli: vec![], ..base.clone() }),
            ("digits", Spec { digits: 3, ..base.clone() }),
            ("digits", Spec { digits: 0, ..base.clone() }),
            ("scale_bits", Spec { scale_bits: 0, ..base.clone() }),
            ("scale_bits", Spec { scale_bits: 60, ..base.clone() }),
            (
                "scale_bits",
                Spec { scale_bits: 50, moduli: base.moduli[..1].to_vec(), digits: 1, ..base.clone() },
            ),
            ("security", Spec { security: Security::Unchecked, ..base.clone() }),
        ] {
            let error = Params::new(bad).unwrap_err().to_string();
            assert!(error.contains(field), "{field}: {error}");
        }
    }
}
