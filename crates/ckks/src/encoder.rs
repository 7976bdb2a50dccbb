//! Numbers to plaintexts and back.

use arras_rns::backend::{Backend, Quantise};
use arras_rns::{Coefficient, Input, LimbSet, Modulus, Poly, Ring, View};

use crate::fft::{Complex, Fft};
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
    plaintext(context, values, rows, how, scale, params.limbs_at(level))
}

fn refuse_beyond(values: &[f64], limit: f64) -> Result<()> {
    match values.iter().position(|x| !x.is_finite() || x.abs() > limit) {
        None => Ok(()),
        Some(index) => Err(Error::Value { operation: "encode", index, value: values[index], limit }),
    }
}

/// Quantises and transforms host values.
fn plaintext<B: Backend>(
    context: &Context<B>,
    values: &[f64],
    batch: usize,
    how: Quantise,
    scale: f64,
    limbs: LimbSet,
) -> Result<Plaintext<B>> {
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    let bits: Vec<u64> = values.iter().map(|x| x.to_bits()).collect();
    let mut buffer = backend.allocate(queue, bits.len())?;
    backend.write(queue, &mut buffer, 0, &bits)?;
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
    let mut poly: Poly<B, Coefficient> = context.allocate(plaintext.poly.limbs(), plaintext.poly.batch())?;
    context.backend().intt(
        context.queue(),
        context.tables(),
        &mut poly.view_mut(),
        plaintext.poly.view().into(),
    )?;
    let all = centred(context, &poly.view())?;
    let rows = all.chunks_exact(degree).flat_map(|row| &row[..count]);
    Ok(rows.map(|x| x / plaintext.scale).collect())
}

/// The coefficients as floats: exact integers in `(-Q/2, Q/2)` rounded to double precision.
fn centred<B: Backend>(context: &Context<B>, view: &View<'_, B, Coefficient>) -> Result<Vec<f64>> {
    let (degree, limbs) = (view.degree(), view.limbs());
    let mut words = vec![0; view.batch() * limbs.len() * degree];
    context.backend().download(context.queue(), view, &mut words)?;
    let lift = Lift::new(context.params().ring(), limbs);
    let mut digits = vec![0; limbs.len()];
    let mut out = Vec::with_capacity(view.batch() * degree);
    for poly in words.chunks_exact(limbs.len() * degree) {
        for i in 0..degree {
            digits.iter_mut().zip(poly[i..].iter().step_by(degree)).for_each(|(digit, &x)| *digit = x);
            out.push(lift.to_f64(&mut digits));
        }
    }
    Ok(out)
}

/// From residues to the centred integer, as a float, in balanced mixed radix: `d_0 + q_0 (d_1 + q_1 (d_2 + ..))` with
/// every digit in `(-q_i/2, q_i/2]`. A small integer has zeros above its last digit, so no accuracy is lost to
/// cancellation, and no big integers are needed.
struct Lift {
    moduli: Vec<Modulus>,
    /// `inverses[i][j] = q_j^-1 mod q_i` for `j < i`.
    inverses: Vec<Vec<u64>>,
}

impl Lift {
    fn new(ring: &Ring, limbs: LimbSet) -> Self {
        let moduli: Vec<Modulus> = limbs.iter().map(|limb| ring.modulus(limb)).collect();
        let inverses = moduli.iter().enumerate().map(|(i, q)| {
            moduli[..i].iter().map(|other| q.inverse(q.reduce(other.value().into()))).collect()
        });
        Self { inverses: inverses.collect(), moduli }
    }

    /// Overwrites the residues with what is left of them.
    fn to_f64(&self, residues: &mut [u64]) -> f64 {
        let mut rest = &mut residues[..];
        let mut index = 0;
        while let Some((residue, later)) = rest.split_first_mut() {
            let digit = i128::from(self.moduli[index].centre(*residue));
            let factors = self.moduli[index + 1..].iter().zip(&self.inverses[index + 1..]);
            for (residue, (q, inverses)) in later.iter_mut().zip(factors) {
                *residue = q.mul(q.sub(*residue, q.reduce_signed(digit)), inverses[index]);
            }
            (rest, index) = (later, index + 1);
        }
        let digits = residues.iter().zip(&self.moduli).rev();
        digits.fold(0.0, |high, (&residue, q)| high * q.value() as f64 + q.centre(residue) as f64)
    }
}

/// Encodes N/2 complex numbers into the slots of a polynomial: slot j is its value at `zeta^(generator^j)` with
/// `zeta = exp(i pi / N)`, so that products act slot by slot and the automorphism `X -> X^generator` rotates the slots.
#[derive(Debug)]
pub struct SlotEncoder {
    group: Slots,
    /// `zeta^k` for `k < N/2`.
    twist: Vec<Complex>,
    fft: Fft,
    /// For each slot its place in the output of the transform, and whether it stands there conjugated.
    places: Vec<(u32, bool)>,
}

impl SlotEncoder {
    /// An encoder for ring degree `degree`. Generator 5 is the usual one; 3 is Microsoft SEAL's.
    ///
    /// # Errors
    /// [`Error::Ring`] if no ring has that degree; [`Error::Count`] if the powers of the generator and their negatives do
    /// not make up all odd numbers, which they do exactly when it is 3 or 5 modulo 8.
    pub fn new(degree: usize, generator: usize) -> Result<Self> {
        let group = Slots::new(degree, generator)?;
        let (slots, generator) = (group.count(), group.generator());
        let shift = usize::BITS - slots.trailing_zeros();
        let mut exponent = 1;
        let places = (0..slots).map(|_| {
            // Values at exponents 4 t + 1 come out of one transform; those at 4 t + 3 are conjugates of the former.
            let conjugated = exponent % 4 == 3;
            let t = (if conjugated { 2 * degree - exponent } else { exponent } - 1) / 4;
            exponent = exponent * generator % (2 * degree);
            ((t.reverse_bits().unbounded_shr(shift)) as u32, conjugated)
        });
        Ok(Self {
            group,
            places: places.collect(),
            twist: (0..slots).map(|k| Complex::unit(k, 2 * degree)).collect(),
            fft: Fft::new(slots),
        })
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
        let limit = coefficient_limit(context.params(), level) / scale / 1.5;
        if let Some(index) = values.iter().position(|z| !(z.re.abs() <= limit && z.im.abs() <= limit)) {
            let value = if values[index].re.abs() <= limit { values[index].im } else { values[index].re };
            return Err(Error::Value { operation: "encode", index, value, limit });
        }
        let mut work = vec![Complex::default(); self.slots()];
        let mut coefficients = Vec::with_capacity(rows * 2 * self.slots());
        for row in values.chunks_exact(row) {
            self.to_coefficients(row, scale, &mut work);
            coefficients.extend(work.iter().map(|z| z.re));
            coefficients.extend(work.iter().map(|z| z.im));
        }
        let degree = 2 * self.slots();
        let how =
            Quantise { first: 0, batch_stride: degree, coefficient_stride: 1, count: degree, scale_bits: 0 };
        plaintext(context, &coefficients, rows, how, scale, limbs)
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
        let coefficients = decode_coefficients(context, plaintext, degree)?;
        let mut work = vec![Complex::default(); self.slots()];
        let mut out = Vec::with_capacity(coefficients.len() / 2);
        for poly in coefficients.chunks_exact(degree) {
            let (low, high) = poly.split_at(self.slots());
            for (((z, &re), &im), &twist) in work.iter_mut().zip(low).zip(high).zip(&self.twist) {
                *z = Complex::new(re, im) * twist;
            }
            self.fft.forward(&mut work);
            out.extend(self.places.iter().map(|&(at, conjugated)| {
                let z = work[at as usize];
                if conjugated { z.conjugate() } else { z }
            }));
        }
        Ok(out)
    }

    /// Inverse transform of one row: real and imaginary parts are the lower and upper half of the coefficients.
    fn to_coefficients(&self, row: &[Complex], scale: f64, work: &mut [Complex]) {
        let padded = row.iter().copied().chain(std::iter::repeat(Complex::default()));
        for (&(at, conjugated), z) in self.places.iter().zip(padded) {
            work[at as usize] = if conjugated { z.conjugate() } else { z };
        }
        self.fft.inverse(work);
        let scale = scale / self.slots() as f64;
        for (z, twist) in work.iter_mut().zip(&self.twist) {
            *z = (*z * twist.conjugate()).scale(scale);
        }
    }
}
