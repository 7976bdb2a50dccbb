//! The row kernels of one limb, on the path chosen for it.

use std::ops::Range;

use arras_rns::backend::Conversion;
use arras_rns::{Modulus, Ring, SeedLabel};

use crate::path::Path;
use crate::portable;
#[cfg(target_arch = "x86_64")]
use crate::simd;
use crate::tables::{Converter, Factor, Matrix, Tables, Terms, Twiddles};

/// The row kernels of one limb. Rows are canonical on entry and on return, and as long as the degree unless said otherwise.
///
/// ```
/// use arras_cpu::Path;
/// use arras_cpu::tables::Tables;
/// # use arras_rns::Ring;
///
/// # let ring = Ring::new(16, &[97])?;
/// let tables = Tables::new(&ring, Path::detect())?;
/// let limb = tables.limb(0);
/// // X^8 squared is X^16, which is -1.
/// let mut row = [0; 16];
/// row[8] = 1;
/// limb.ntt(&mut row);
/// let values = row;
/// limb.multiply(&mut row, None, &values);
/// limb.intt(&mut row);
/// assert_eq!((row[0], &row[1..]), (96, &[0; 15][..]));
/// # Ok::<(), arras_rns::Error>(())
/// ```
#[derive(Debug)]
pub struct LimbTable {
    /// The modulus.
    pub modulus: Modulus,
    kernels: Kernels,
}

#[derive(Debug)]
enum Kernels {
    Portable(Twiddles),
    #[cfg(target_arch = "x86_64")]
    Simd(Box<simd::Kernels>),
}

impl LimbTable {
    /// The kernels of `limb` on `path`, or portable ones if the degree is too small to fill vectors. The processor has
    /// been checked to have what the path needs.
    pub(crate) fn new(ring: &Ring, limb: usize, path: Path) -> Self {
        let modulus = ring.modulus(limb);
        #[cfg(target_arch = "x86_64")]
        if let Some(kernels) = simd::Kernels::new(ring, limb, path) {
            return Self { modulus, kernels: Kernels::Simd(Box::new(kernels)) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = path;
        Self { modulus, kernels: Kernels::Portable(Twiddles::new(ring, limb)) }
    }

    /// Forward transform in place.
    pub fn ntt(&self, row: &mut [u64]) {
        match &self.kernels {
            Kernels::Portable(twiddles) => portable::ntt(row, twiddles),
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => kernels.ntt(row),
        }
    }

    /// Forward transform in place, to values that only [`inner_products`](Self::inner_products) and
    /// [`sub_scale`](Self::sub_scale) of this limb take: not canonical where that can be left out. Asks the memory for
    /// `operands` meanwhile, which are read next.
    pub fn ntt_for_product(&self, row: &mut [u64], operands: &[u64]) {
        match &self.kernels {
            Kernels::Portable(twiddles) => portable::ntt(row, twiddles),
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => kernels.ntt_for_product(row, operands),
        }
    }

    /// Inverse transform in place, 1/N included.
    pub fn intt(&self, row: &mut [u64]) {
        self.intt_from(row, None);
    }

    /// Inverse transform in place, 1/N included. Asks the memory for `operands` meanwhile, which are read next.
    pub fn intt_before_product(&self, row: &mut [u64], operands: &[u64]) {
        match &self.kernels {
            Kernels::Portable(twiddles) => portable::intt(row, twiddles),
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => kernels.intt_before_product(row, operands),
        }
    }

    /// Inverse transform of `from`, or in place, 1/N included.
    pub fn intt_from(&self, row: &mut [u64], from: Option<&[u64]>) {
        match &self.kernels {
            Kernels::Portable(twiddles) => {
                if let Some(from) = from {
                    row.copy_from_slice(from);
                }
                portable::intt(row, twiddles);
            }
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => kernels.intt(row, from),
        }
    }

    /// `out = a + b`, where no `a` stands for `out` itself.
    pub fn add(&self, out: &mut [u64], a: Option<&[u64]>, b: &[u64]) {
        match &self.kernels {
            Kernels::Portable(_) => portable::add(out, a, b, self.modulus),
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => kernels.add(out, a, b),
        }
    }

    /// `out = a - b`.
    pub fn sub(&self, out: &mut [u64], a: Option<&[u64]>, b: &[u64]) {
        match &self.kernels {
            Kernels::Portable(_) => portable::sub(out, a, b, self.modulus),
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => kernels.sub(out, a, b),
        }
    }

    /// `out = -a`.
    pub fn negate(&self, out: &mut [u64], a: Option<&[u64]>) {
        match &self.kernels {
            Kernels::Portable(_) => portable::negate(out, a, self.modulus),
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => kernels.negate(out, a),
        }
    }

    /// `out = a * b`.
    pub fn multiply(&self, out: &mut [u64], a: Option<&[u64]>, b: &[u64]) {
        match &self.kernels {
            Kernels::Portable(_) => portable::multiply(out, a, b, self.modulus),
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => kernels.multiply(out, a, b),
        }
    }

    /// `out = out + a * b`.
    pub fn multiply_accumulate(&self, out: &mut [u64], a: &[u64], b: &[u64]) {
        match &self.kernels {
            Kernels::Portable(_) => portable::multiply_accumulate(out, a, b, self.modulus),
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => kernels.multiply_accumulate(out, a, b),
        }
    }

    /// `out = a * scalar + b`; without `b` just the product.
    pub fn scale_add(&self, out: &mut [u64], a: Option<&[u64]>, scalar: u64, b: Option<&[u64]>) {
        match &self.kernels {
            Kernels::Portable(_) => portable::scale_add(out, a, scalar, b, self.modulus),
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => kernels.scale_add(out, a, Factor::new(self.modulus, scalar), b),
        }
    }

    /// `out = (a - b) * scalar`: the end of a division by dropped primes.
    pub fn sub_scale(&self, out: &mut [u64], a: Option<&[u64]>, b: &[u64], scalar: u64) {
        match &self.kernels {
            Kernels::Portable(_) => {
                portable::sub(out, a, b, self.modulus);
                portable::scale_add(out, None, scalar, None, self.modulus);
            }
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => kernels.sub_scale(out, a, b, Factor::new(self.modulus, scalar)),
        }
    }

    /// `out = sum_k left[k] * right[k]`.
    pub fn inner_product(&self, out: &mut [u64], left: &[&[u64]], right: Terms<'_>) {
        match &self.kernels {
            Kernels::Portable(_) => portable::inner_product(out, left, right, 0, self.modulus),
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => kernels.inner_product(out, left, right),
        }
    }

    /// `out[c] = sum_k left[k] * right[k][c]` for two components, which are consecutive entries.
    pub fn inner_products(&self, out: [&mut [u64]; 2], left: &[&[u64]], right: Terms<'_>) {
        match &self.kernels {
            Kernels::Portable(_) => {
                for (component, out) in out.into_iter().enumerate() {
                    portable::inner_product(out, left, right, component, self.modulus);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => kernels.inner_products(out, left, right),
        }
    }

    /// The first step of a base conversion: the digits `[a scale]` taken centred and moved to `[0, q)`; without `a`, in
    /// place.
    pub fn digits(&self, out: &mut [u64], a: Option<&[u64]>, scale: Factor) {
        match &self.kernels {
            Kernels::Portable(_) => portable::digits(out, a, scale, self.modulus),
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => kernels.digits(out, a, scale),
        }
    }

    /// What [`matrix_rows`](Self::matrix_rows) takes for each row of a matrix: the sum of the products of neighbours.
    pub fn matrix_constants(&self, matrix: &Matrix) -> Vec<u64> {
        let q = self.modulus;
        let product = |pair: &[i64]| match pair {
            [a, b] => q.reduce_signed(i128::from(*a) * i128::from(*b)),
            _ => 0,
        };
        matrix.each_row().map(|row| row.chunks(2).fold(0, |sum, pair| q.add(sum, product(pair)))).collect()
    }

    /// `out[r] = sum_c matrix[r][c] * inputs[c]`, for stretches of rows that are a multiple of 16 words or whole rows.
    pub fn matrix_rows(&self, out: &mut [&mut [u64]], matrix: &Matrix, constants: &[u64], inputs: &[&[u64]]) {
        #[cfg(target_arch = "x86_64")]
        if let (Kernels::Simd(kernels), true) = (&self.kernels, matrix.largest < self.modulus.value()) {
            return kernels.matrix_rows(out, &matrix.each_row().collect::<Vec<_>>(), constants, inputs);
        }
        let _ = constants;
        for (out, weights) in out.iter_mut().zip(matrix.each_row()) {
            portable::matrix_row(out, weights, inputs, matrix.terms_per_reduction, self.modulus);
        }
    }

    /// `X -> X^element` on coefficients.
    pub fn automorphism_coefficients(&self, out: &mut [u64], input: &[u64], element: usize) {
        portable::automorphism_coefficients(out, input, element, self.modulus);
    }

    /// `X -> X^element` on values.
    pub fn automorphism_values(&self, out: &mut [u64], input: &[u64], element: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Kernels::Simd(kernels) = &self.kernels
            && kernels.automorphism_values(out, input, element).is_some()
        {
            return;
        }
        portable::automorphism_values(out, input, element);
    }

    /// `row[i] = round(values[i] 2^scale_bits) mod q` for floats given as words, whose products with the scale have been
    /// checked to be [in range](portable::in_range).
    pub fn quantise(&self, row: &mut [u64], values: &[u64], scale_bits: i32) {
        #[cfg(target_arch = "x86_64")]
        if let (Kernels::Simd(kernels), true) = (&self.kernels, self.modulus.bits() > 13) {
            return kernels.quantise(row, values, scale_bits);
        }
        for (residue, &value) in row.iter_mut().zip(values) {
            let integer = portable::quantise(f64::from_bits(value), scale_bits).unwrap_or_default();
            let q = self.modulus.value();
            *residue = if integer.unsigned_abs() < q {
                // Secrets are small: nothing branches on their signs.
                (integer + (integer >> 63 & q as i64)) as u64
            } else {
                self.modulus.reduce_signed(integer.into())
            };
        }
    }

    /// A uniform row ([`SeedLabel::expand`]).
    pub fn expand_seed(&self, row: &mut [u64], label: &SeedLabel) {
        match &self.kernels {
            Kernels::Portable(_) => label.expand(self.modulus, row),
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => {
                const CHUNK: usize = 256;
                let mut bytes = [0; 16 * CHUNK];
                let mut stream = label.stream(self.modulus);
                for part in row.chunks_mut(CHUNK) {
                    let bytes = &mut bytes[..16 * part.len()];
                    stream.fill(bytes);
                    kernels.reduce_bytes(part, bytes);
                }
            }
        }
    }
}

/// [`portable::trim`] without a division: `x 2^bits - (x 2^bits mod q)` is a multiple of q, so multiplying by the inverse
/// of q modulo 2^64 divides it.
///
/// ```
/// use arras_cpu::kernels::Trimmer;
/// use arras_cpu::portable;
/// use arras_rns::Modulus;
///
/// let q = Modulus::new(97)?;
/// let trimmer = Trimmer::new(q, 4);
/// assert_eq!(trimmer.trim(24), 4); // 24 / 97 in sixteenths
/// assert_eq!(trimmer.trim(96), 0); // 16 sixteenths, modulo 2^4
/// assert!((0..97).all(|x| trimmer.trim(x) == portable::trim(x, 4, q)));
/// # Ok::<(), arras_rns::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Trimmer {
    modulus: Modulus,
    bits: u32,
    inverse: u64,
}

impl Trimmer {
    /// Trims residues modulo `modulus` to `bits <= 60` bits.
    pub fn new(modulus: Modulus, bits: u32) -> Self {
        let q = modulus.value();
        // Newton: q is its own inverse modulo 8, and each step doubles the number of correct bits.
        let inverse = (0..5).fold(q, |x, _| x.wrapping_mul(2u64.wrapping_sub(q.wrapping_mul(x))));
        Self { modulus, bits, inverse }
    }

    /// `floor((2 x 2^bits + q) / 2q) mod 2^bits`.
    pub fn trim(self, x: u64) -> u64 {
        let shifted = u128::from(x) << self.bits;
        let rest = self.modulus.reduce(shifted);
        let quotient = (shifted as u64).wrapping_sub(rest).wrapping_mul(self.inverse);
        quotient.wrapping_add(u64::from(2 * rest >= self.modulus.value())) & ((1 << self.bits) - 1)
    }
}

/// The second step of base conversions, from [digits](LimbTable::digits) to other limbs.
///
/// See the example of [`Converter`], whose second step this is.
#[derive(Clone, Copy, Debug)]
pub struct Weighing<'a> {
    tables: &'a Tables,
    converter: &'a Converter,
    /// Whether all source limbs have at most 50 bits, and kernels for that.
    narrow: bool,
}

impl<'a> Weighing<'a> {
    /// With the constants of a converter.
    pub fn new(tables: &'a Tables, converter: &'a Converter) -> Self {
        let narrow = converter.source().iter().all(|limb| match &tables.limb(limb).kernels {
            Kernels::Portable(_) => false,
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => kernels.is_narrow(),
        });
        Self { tables, converter, narrow }
    }

    /// Writes words `at` of the row of target limb `limb` from the same words of all digits. The stretch is a multiple of
    /// 16 words, or all.
    pub fn weigh(self, limb: usize, out: &mut [u64], at: Range<usize>, digits: &[&[u64]]) {
        let column = &self.converter.columns[self.converter.target().rank(limb)];
        match &self.tables.limb(limb).kernels {
            Kernels::Portable(_) => portable::weigh(out, at, digits, column),
            #[cfg(target_arch = "x86_64")]
            Kernels::Simd(kernels) => {
                kernels.weigh(out, at, digits, &column.weights, column.start, self.narrow);
            }
        }
    }

    /// Words of each row that [`rows`](Self::rows) takes at a time: those of all digits stay in the first-level cache
    /// while one limb after the other is written.
    const STRETCH: usize = 128;

    /// Writes whole rows, each with its target limb.
    pub fn rows(self, outputs: &mut [(usize, &mut [u64])], digits: &[&[u64]]) {
        let length = digits.first().map_or(0, |digit| digit.len());
        for start in (0..length).step_by(Self::STRETCH) {
            for (limb, out) in &mut *outputs {
                self.weigh(*limb, out, start..length.min(start + Self::STRETCH), digits);
            }
        }
    }
}

/// Converts a stretch of coefficients from the limbs `inputs` to the limbs `outputs` (same stretch of every row): a
/// multiple of 16 words, or whole rows.
pub fn base_convert(tables: &Tables, outputs: &mut [&mut [u64]], inputs: &[&[u64]], converter: &Converter) {
    let length = inputs.first().map_or(0, |row| row.len());
    let mut digits = vec![0; length * inputs.len()];
    let rows = digits.chunks_exact_mut(length.max(1));
    for (((limb, row), digits), &scale) in
        converter.source().iter().zip(inputs).zip(rows).zip(&converter.scale)
    {
        tables.limb(limb).digits(digits, Some(row), scale);
    }
    let digits: Vec<&[u64]> = digits.chunks_exact(length.max(1)).collect();
    let targets = converter.target().iter();
    let mut outputs: Vec<_> = targets.zip(outputs.iter_mut().map(|row| &mut **row)).collect();
    Weighing::new(tables, converter).rows(&mut outputs, &digits);
}
