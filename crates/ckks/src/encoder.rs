//! Numbers to plaintexts and back.

use arras_rns::backend::{Backend, Quantise};
use arras_rns::{Coefficient, Input, LimbSet, Poly};

use crate::fft::{Complex, Fft};
use crate::lift::to_floats;
use crate::{Context, Error, Params, Plaintext, Result, Slots};

/// Largest magnitude of a scaled coefficient at a level: just below half the modulus, which would change the sign, and at
/// most 2^62, which a backend rounds exactly.
fn coefficient_limit(params: &Params, level: usize) -> f64 {
    let half = (params.log_modulus(level) - 1.0).exp2();
    (half * (1.0 - 1e-9)).min((1u64 << 62) as f64)
}

/// Refuses a level that there is not, and a scale that no value survives.
fn check_target(params: &Params, scale: f64, level: usize) -> Result<()> {
    const OPERATION: &str = "encode";
    if level > params.max_level() {
        return Err(Error::LevelsExhausted {
            operation: OPERATION,
            needed: level,
            level: params.max_level(),
        });
    }
    if scale.is_nan() || scale < 1.0 {
        return Err(Error::ScaleTooSmall { operation: OPERATION, scale });
    }
    let (scale, modulus) = (scale.log2(), params.log_modulus(level));
    if scale > modulus - 1.0 || scale > 62.0 {
        return Err(Error::ScaleTooLarge { operation: OPERATION, scale, modulus });
    }
    Ok(())
}

/// Number of rows of `row` values, at most `limit` of them.
fn count_rows(values: usize, row: usize, limit: usize) -> Result<usize> {
    if row == 0 || row > limit || values == 0 || !values.is_multiple_of(row) {
        let expected = format!("a divisor of {values} up to {limit}");
        return Err(Error::Count { operation: "encode", what: "values per row", found: row, expected });
    }
    Ok(values / row)
}

/// Encodes into coefficients: value j of row b becomes coefficient j of polynomial b, times `2^scale_bits`, rounded with
/// ties to even. Exact for the rounding; products of such plaintexts are negacyclic convolutions.
///
/// # Errors
/// [`Error::Count`] if rows are longer than the degree or do not divide `values`; [`Error::LevelsExhausted`] if there is
/// no such level; [`Error::ScaleTooLarge`]; [`Error::Value`] if a value is not finite or does not fit the modulus.
pub fn encode_coefficients<B: Backend>(
    context: &Context<B>,
    values: &[f64],
    row: usize,
    scale_bits: u32,
    level: usize,
) -> Result<Plaintext<B>> {
    let params = context.params();
    let rows = count_rows(values.len(), row, params.degree())?;
    let scale = f64::from(scale_bits).exp2();
    check_target(params, scale, level)?;
    refuse_beyond(values, coefficient_limit(params, level) / scale)?;
    let how = Quantise {
        first: 0,
        batch_stride: row,
        coefficient_stride: 1,
        count: row,
        scale_bits: scale_bits as i32,
    };
    let bits: Vec<u64> = values.iter().map(|x| x.to_bits()).collect();
    plaintext(context, &bits, rows, how, scale, params.limbs_at(level))
}

fn refuse_beyond(values: &[f64], limit: f64) -> Result<()> {
    match values.iter().position(|x| !x.is_finite() || x.abs() > limit) {
        None => Ok(()),
        Some(index) => Err(Error::Value { operation: "encode", index, value: values[index], limit }),
    }
}

/// Quantises and transforms the bit patterns of host values.
fn plaintext<B: Backend>(
    context: &Context<B>,
    values: &[u64],
    batch: usize,
    how: Quantise,
    scale: f64,
    limbs: LimbSet,
) -> Result<Plaintext<B>> {
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    let mut buffer = backend.allocate(queue, values.len())?;
    backend.write(queue, &mut buffer, 0, values)?;
    let mut poly: Poly<B, Coefficient> = context.allocate(limbs, batch)?;
    backend.quantise(queue, tables, &mut poly.view_mut(), &buffer, how)?;
    let mut poly = poly.retag();
    backend.ntt(queue, tables, &mut poly.view_mut(), Input::InPlace)?;
    Ok(Plaintext { poly, scale })
}

/// The first `count` coefficients of every polynomial of a plaintext, divided by its scale; row by row.
///
/// # Errors
/// [`Error::Count`] if `count` exceeds the degree, [`Error::Ring`] if the device fails.
pub fn decode_coefficients<B: Backend>(
    context: &Context<B>,
    plaintext: &Plaintext<B>,
    count: usize,
) -> Result<Vec<f64>> {
    let degree = context.params().degree();
    if count > degree {
        let expected = format!("at most {degree}");
        return Err(Error::Count { operation: "decode", what: "coefficients", found: count, expected });
    }
    let all = integers(context, plaintext)?;
    let rows = all.chunks_exact(degree).flat_map(|row| &row[..count]);
    Ok(rows.map(|x| x / plaintext.scale).collect())
}

/// The coefficients, not divided by the scale.
fn integers<B: Backend>(context: &Context<B>, plaintext: &Plaintext<B>) -> Result<Vec<f64>> {
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    let mut poly: Poly<B, Coefficient> = context.allocate(plaintext.poly.limbs(), plaintext.poly.batch())?;
    backend.intt(queue, tables, &mut poly.view_mut(), plaintext.poly.view().into())?;
    to_floats(context, poly)
}

/// Encodes N/2 complex numbers into the slots of a polynomial: slot j is its value at `zeta^(generator^j)` with
/// `zeta = exp(i pi / N)`, so that products act slot by slot and the automorphism `X -> X^generator` rotates the slots.
///
/// ```
/// use arras_ckks::Slots;
/// use arras_ckks::encoder::SlotEncoder;
/// use arras_ckks::fft::Complex;
/// # use arras_ckks::{Context, Params, Security, Spec};
/// # use arras_cpu::Cpu;
///
/// # let q = arras_rns::prime::ntt_primes(45, 64, 4, &[])?;
/// # let (moduli, special) = (q[1..].to_vec(), vec![q[0]]);
/// # let spec = Spec { degree: 64, moduli, special, digits: 3, scale_bits: 40, security: Security::Unchecked };
/// # let context = Context::new(Cpu::sequential(), Params::insecure(spec)?)?;
/// let encoder = SlotEncoder::new(64, Slots::GENERATOR)?;
/// let numbers: Vec<Complex> = (0..32).map(|j| Complex::new(f64::from(j), 0.5)).collect();
/// let scale = context.params().scale();
/// let plaintext = encoder.encode(&context, &numbers, encoder.slots(), scale, 2)?;
/// let decoded = encoder.decode(&context, &plaintext)?;
/// // Rounded at scale 2^40.
/// let errors = decoded.iter().zip(&numbers).map(|(&a, &b)| (a - b).re.hypot((a - b).im));
/// assert!(errors.fold(0.0, f64::max) < 1e-10);
/// # Ok::<(), arras_ckks::Error>(())
/// ```
#[derive(Debug)]
pub struct SlotEncoder {
    group: Slots,
    fft: Fft,
    /// For each slot its place in the output of the transform, and the sign bit of its imaginary part if it stands there
    /// conjugated.
    places: Vec<(u32, u64)>,
}

impl SlotEncoder {
    /// An encoder for ring degree `degree`. Generator 5 is the usual one; 3 is Microsoft SEAL's.
    ///
    /// # Errors
    /// [`Error::Ring`] if no ring has that degree; [`Error::Count`] if the powers of the generator and their negatives do
    /// not make up all odd numbers, which they do exactly when it is 3 or 5 modulo 8.
    pub fn new(degree: usize, generator: usize) -> Result<Self> {
        let group = Slots::new(degree, generator)?;
        let fft = Fft::new(group.count());
        let mut exponent = 1;
        let places = (0..group.count()).map(|_| {
            // The transform has the values at exponents 4 t + 1; those at 4 t + 3 are conjugates of such.
            let conjugated = exponent % 4 == 3;
            let t = (if conjugated { 2 * degree - exponent } else { exponent } - 1) / 4;
            exponent = exponent * group.generator() % (2 * degree);
            (fft.place(t) as u32, u64::from(conjugated) << 63)
        });
        Ok(Self { group, places: places.collect(), fft })
    }

    /// Which automorphism moves which slot.
    pub fn group(&self) -> Slots {
        self.group
    }

    /// Number of slots, N/2.
    pub fn slots(&self) -> usize {
        self.places.len()
    }

    /// Encodes rows of `row` numbers each, one row per polynomial; unused slots are 0.
    ///
    /// # Errors
    /// [`Error::Count`] if rows are longer than the slots or do not divide `values`, or the encoder is for another degree;
    /// [`Error::LevelsExhausted`] if there is no such level; [`Error::ScaleTooSmall`], [`Error::ScaleTooLarge`];
    /// [`Error::Value`] if a value is not finite or a coefficient might not fit the modulus.
    pub fn encode<B: Backend>(
        &self,
        context: &Context<B>,
        values: &[Complex],
        row: usize,
        scale: f64,
        level: usize,
    ) -> Result<Plaintext<B>> {
        let limbs = context.params().limbs_at(level);
        self.encode_to(context, values, row, scale, level, limbs)
    }

    /// As [`encode`](Self::encode), full rows, over the special primes too: what is multiplied before they are divided away.
    pub(crate) fn encode_extended<B: Backend>(
        &self,
        context: &Context<B>,
        values: &[Complex],
        scale: f64,
        level: usize,
    ) -> Result<Plaintext<B>> {
        let limbs = context.params().key_limbs(level);
        self.encode_to(context, values, self.slots(), scale, level, limbs)
    }

    fn encode_to<B: Backend>(
        &self,
        context: &Context<B>,
        values: &[Complex],
        row: usize,
        scale: f64,
        level: usize,
        limbs: LimbSet,
    ) -> Result<Plaintext<B>> {
        self.check_degree("encode", context)?;
        let rows = count_rows(values.len(), row, self.slots())?;
        check_target(context.params(), scale, level)?;
        // A coefficient is at most sqrt(2) times the largest slot.
        refuse_slots_beyond(values, coefficient_limit(context.params(), level) / scale / 1.5)?;
        let degree = 2 * self.slots();
        let mut coefficients = vec![0.0; rows * degree];
        for (values, coefficients) in values.chunks_exact(row).zip(coefficients.chunks_exact_mut(degree)) {
            self.to_coefficients(values, scale, coefficients);
        }
        let how =
            Quantise { first: 0, batch_stride: degree, coefficient_stride: 1, count: degree, scale_bits: 0 };
        // In place.
        let bits: Vec<u64> = coefficients.into_iter().map(f64::to_bits).collect();
        plaintext(context, &bits, rows, how, scale, limbs)
    }

    fn check_degree<B: Backend>(&self, operation: &'static str, context: &Context<B>) -> Result<()> {
        let (found, degree) = (self.slots(), context.params().degree());
        if 2 * found == degree {
            return Ok(());
        }
        Err(Error::Count {
            operation,
            what: "slots of the encoder",
            found,
            expected: (degree / 2).to_string(),
        })
    }

    /// All slots of every polynomial of a plaintext, row by row.
    ///
    /// # Errors
    /// [`Error::Count`] if the encoder is for another degree, [`Error::Ring`] if the device fails.
    pub fn decode<B: Backend>(&self, context: &Context<B>, plaintext: &Plaintext<B>) -> Result<Vec<Complex>> {
        self.check_degree("decode", context)?;
        let degree = 2 * self.slots();
        let mut coefficients = integers(context, plaintext)?;
        let factor = 1.0 / plaintext.scale;
        let mut out = Vec::with_capacity(coefficients.len() / 2);
        for poly in coefficients.chunks_exact_mut(degree) {
            let (re, im) = poly.split_at_mut(self.slots());
            self.fft.forward(re, im);
            out.extend(self.places.iter().map(|&(at, sign)| {
                let (re, im) = (re[at as usize], im[at as usize]);
                Complex { re: re * factor, im: with_sign(im, sign) * factor }
            }));
        }
        Ok(out)
    }

    /// Coefficients of one row, which were 0: the real and imaginary parts of what the transform takes to the slots are
    /// the lower and the upper half.
    fn to_coefficients(&self, values: &[Complex], scale: f64, coefficients: &mut [f64]) {
        // The transform multiplies by a power of two.
        let factor = scale / self.slots() as f64;
        let (re, im) = coefficients.split_at_mut(self.slots());
        for (&(at, sign), z) in self.places.iter().zip(values) {
            (re[at as usize], im[at as usize]) = (z.re * factor, with_sign(z.im, sign) * factor);
        }
        self.fft.inverse(re, im);
    }
}

/// `x`, or `-x` if `sign` is the sign bit and not 0.
fn with_sign(x: f64, sign: u64) -> f64 {
    f64::from_bits(x.to_bits() ^ sign)
}

/// Refuses a number that is not finite or might make a coefficient too large.
fn refuse_slots_beyond(values: &[Complex], limit: f64) -> Result<()> {
    let fits = |x: f64| x.abs() <= limit;
    for (chunk, values) in values.chunks(SCANNED).enumerate() {
        // Without an early end, so that several are compared at a time.
        if values.iter().fold(true, |all, z| all & fits(z.re) & fits(z.im)) {
            continue;
        }
        if let Some(index) = values.iter().position(|z| !(fits(z.re) && fits(z.im))) {
            let Complex { re, im } = values[index];
            let (index, value) = (chunk * SCANNED + index, if fits(re) { im } else { re });
            return Err(Error::Value { operation: "encode", index, value, limit });
        }
    }
    Ok(())
}

/// Values that are checked together.
const SCANNED: usize = 64;
