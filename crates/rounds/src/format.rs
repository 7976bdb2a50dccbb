//! Sums as integers.
//!
//! Every entry of the statistics of rows with `|x|^2 <= 1`, extended by a one, is at most `2 rows` in magnitude. That public bound
//! becomes `2^36`: a client rounds its entries to multiples of `2^-36` of it, and all later sums are sums of
//! integers.

use arras_ckks::threshold::{flooding_bits, noise_bound};
use arras_ckks::{Params, Security, Spec};
use arras_rns::prime::shifted_primes;

use crate::{Agreement, Error, Result};

/// log2 of the integer that stands for the public bound.
pub const FRACTION_BITS: u32 = 36;
/// Ring degree of the uploads.
pub const DEGREE: usize = 4096;
/// Sizes of the two primes.
const PRIME_BITS: std::ops::RangeInclusive<u32> = 40..=50;

/// How sums are written as integers, and the parameters that carry them.
///
/// ```
/// # use arras_rounds::Agreement;
/// # let agreement = Agreement { name: "tiles".into(), epoch: 1, backbone: "vit".into(), dimension: 768,
/// #     classes: vec!["a".into(), "b".into()], row_bound: 8.0, rows: 1000, parties: 3, threshold: 2, quorum: 3,
/// #     receiver: "alpha".into(), projection: None, privacy: None };
/// // 768 features, two classes, three parties, at most 1000 rows.
/// let format = agreement.format()?;
/// assert_eq!(format.entries, 769 * 770 / 2 + 769 * 2);
/// assert_eq!(format.unit, 2000.0 / 2_f64.powi(36));
/// assert_eq!(format.polynomials(format.entries), format.entries.div_ceil(4096));
/// // An integer times the scale outweighs twice the error of a decrypted sum, so rounding recovers it.
/// assert!(2_f64.powi(format.scale_bits as i32) > 2.0 * format.noise_bound());
/// # Ok::<(), arras_rounds::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Format {
    /// Entries of `X'^T X'` and `X'^T Y`.
    pub entries: usize,
    /// What an integer is multiplied by to give an entry of the statistics.
    pub unit: f64,
    /// log2 of what integers are multiplied by before encryption.
    pub scale_bits: u32,
    /// Ring degree 4096, two primes, no special primes.
    pub params: Params,
    uploads: u32,
    shares: u32,
}

impl Format {
    /// The format of an agreement: the smallest parameters whose scale is above twice the largest error of a decrypted
    /// sum, so that the sum is exact.
    ///
    /// # Errors
    /// More parties than the parameters at 128-bit security have room for.
    pub fn new(agreement: &Agreement) -> Result<Self> {
        let side = agreement.features() as usize + 1;
        let entries = side * (side + 1) / 2 + side * agreement.classes.len();
        let bound = 2.0 * f64::from(agreement.rows);
        let (uploads, shares) = (agreement.parties, agreement.threshold);
        let scale_bits = noise_bound(DEGREE, uploads, shares).log2().floor() as u32 + 2;
        // A sign, and room for the rounding of every upload and the noise of differential privacy.
        let log_modulus = scale_bits + FRACTION_BITS + 3;
        let bits = log_modulus.div_ceil(2).max(*PRIME_BITS.start());
        if !PRIME_BITS.contains(&bits) {
            let reason =
                format!("{uploads} parties, {shares} of which decrypt, need a modulus of {log_modulus} bits");
            return Err(Error::invalid("parties", format!("{reason}; there are {}", 2 * PRIME_BITS.end())));
        }
        let moduli = shifted_primes(bits, DEGREE, 2, &[]).map_err(arras_ckks::Error::from)?;
        let security = Security::Classical128;
        let params = Params::new(Spec {
            degree: DEGREE,
            moduli,
            special: vec![],
            digits: 1,
            scale_bits: 20,
            security,
        })?;
        let unit = bound * (-f64::from(FRACTION_BITS)).exp2();
        Ok(Format { entries, unit, scale_bits, params, uploads, shares })
    }

    /// Polynomials of so many integers.
    pub fn polynomials(&self, integers: usize) -> usize {
        arras_ckks::integers::polynomials(integers, DEGREE)
    }

    /// log2 of the flooding that every share adds: at least `2^40` times the noise of all uploads.
    pub fn flooding_bits(&self) -> u32 {
        flooding_bits(self.uploads)
    }

    /// Largest error of a decrypted sum.
    pub fn noise_bound(&self) -> f64 {
        noise_bound(DEGREE, self.uploads, self.shares)
    }

    /// Bytes of an upload of so many integers, headers aside.
    pub fn upload_bytes(&self, integers: usize) -> usize {
        let bits: usize = self.params.spec().moduli.iter().map(|q| q.ilog2() as usize + 1).sum();
        self.polynomials(integers) * DEGREE * bits / 8
    }
}
