//! What is varied.

use std::path::Path;

use arras_ckks::{Params, Security, Spec};
use arras_rns::prime::ntt_primes;
use arras_wire::file::read_bounded;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Largest sweep that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The shapes that cases are made for. In a TOML file every field may be left out:
///
/// ```
/// let sweep: arras_measure::Sweep = toml::from_str(r#"
///     degrees = [8192]
///     bits = [45, 50]
///     limbs = [1, 3]
///
///     [[sets]]
///     degree = 8192
///     moduli = [50, 46, 46]
///     special = [50]
///     digits = 3
///     scale = 40
/// "#)?;
/// assert_eq!(sweep.batches, [1]);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sweep {
    /// Ring degrees of the backend's cases, and which of `sets` are taken.
    pub degrees: Vec<usize>,
    /// Limbs of the operands of the backend's cases.
    pub limbs: Vec<usize>,
    /// Sizes of their primes. Methods whose code does not depend on the size are measured at one of them only.
    pub bits: Vec<u32>,
    /// Polynomials in each operand.
    pub batches: Vec<usize>,
    /// Parameter sets of the cases of CKKS.
    pub sets: Vec<Set>,
    /// Whether the encrypted heads are measured.
    pub heads: bool,
}

/// The sizes of a parameter set.
///
/// ```
/// use arras_measure::sweep::Set;
///
/// let set = Set { degree: 8192, moduli: vec![50, 46, 46], special: vec![50], digits: 3, scale: 40 };
/// assert_eq!(set.name(), "n=8192/q=50+2x46/p=50/dnum=3");
/// assert_eq!(set.params()?.degree(), 8192);
/// // 250 bits at degree 8192 are not secure.
/// assert!(Set { moduli: vec![50; 4], ..set }.params().is_err());
/// # Ok::<(), arras_measure::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// Ring degree.
    pub degree: usize,
    /// Bits of the primes of Q.
    pub moduli: Vec<u32>,
    /// Bits of the special primes.
    pub special: Vec<u32>,
    /// Digits of Q in a key switch.
    pub digits: usize,
    /// Bits of the scale.
    pub scale: u32,
}

impl Default for Sweep {
    /// N from 2^12 to 2^16; the three classes of primes; 128-bit security.
    fn default() -> Self {
        let set = |degree, moduli: &[u32], special: &[u32], digits, scale| Set {
            degree,
            moduli: moduli.to_vec(),
            special: special.to_vec(),
            digits,
            scale,
        };
        Self {
            degrees: (12..=16).map(|log| 1 << log).collect(),
            limbs: vec![3],
            bits: vec![45, 50, 60],
            batches: vec![1],
            sets: vec![
                set(1 << 12, &[36, 32], &[36], 2, 30),
                set(1 << 13, &[50, 46, 46], &[50], 3, 40),
                set(1 << 14, &[43; 7], &[43; 3], 3, 40),
                set(1 << 15, &[43; 15], &[43; 5], 3, 40),
                set(1 << 16, &[45; 25], &[45; 9], 3, 42),
            ],
            heads: true,
        }
    }
}

impl Sweep {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// Names the file and the field.
    pub fn read(path: &Path) -> Result<Self> {
        let parse = || -> Result<Self> {
            let bytes = read_bounded(path, MAX_BYTES)?;
            let text = String::from_utf8(bytes).map_err(|_| Error::field("sweep", "is not UTF-8"))?;
            Ok(toml::from_str(&text)?)
        };
        parse().map_err(|error| error.in_file(path))
    }
}

impl Set {
    /// The largest primes of these sizes, the special ones first, under the policy of 128-bit security.
    ///
    /// # Errors
    /// If there are not as many primes, or the set is not secure.
    pub fn params(&self) -> Result<Params> {
        let mut taken = Vec::new();
        for &bits in self.special.iter().chain(&self.moduli) {
            taken.extend(ntt_primes(bits, self.degree, 1, &taken)?);
        }
        let moduli = taken.split_off(self.special.len());
        Ok(Params::new(Spec {
            degree: self.degree,
            moduli,
            special: taken,
            digits: self.digits,
            scale_bits: self.scale,
            security: Security::Classical128,
        })?)
    }

    /// How it stands in the names of cases: `n=8192/q=50+2x46/p=50/dnum=3`.
    pub fn name(&self) -> String {
        let sizes = |bits: &[u32]| {
            let runs = bits.chunk_by(|a, b| a == b).map(|run| match run {
                [one] => one.to_string(),
                _ => format!("{}x{}", run.len(), run[0]),
            });
            runs.collect::<Vec<_>>().join("+")
        };
        let (degree, digits) = (self.degree, self.digits);
        format!("n={degree}/q={}/p={}/dnum={digits}", sizes(&self.moduli), sizes(&self.special))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_sets_are_secure_and_have_names() {
        let sweep = Sweep::default();
        let names: Vec<String> = sweep.sets.iter().map(Set::name).collect();
        assert_eq!(names[1], "n=8192/q=50+2x46/p=50/dnum=3");
        assert_eq!(names[3], "n=32768/q=15x43/p=5x43/dnum=3");
        for set in &sweep.sets {
            set.params().unwrap();
        }
        assert!(Set { moduli: vec![60; 9], ..sweep.sets[1].clone() }.params().is_err());
    }

    #[test]
    fn files_name_their_mistakes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep.toml");
        std::fs::write(&path, "degrees = [2048]\nheads = false\n").unwrap();
        let sweep = Sweep::read(&path).unwrap();
        assert_eq!((sweep.degrees, sweep.heads, sweep.limbs), (vec![2048], false, vec![3]));
        std::fs::write(&path, "degree = [2048]\n").unwrap();
        let error = Sweep::read(&path).unwrap_err().to_string();
        assert!(error.contains("sweep.toml") && error.contains("degree"), "{error}");
    }
}
