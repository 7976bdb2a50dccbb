//! The transform of the slot encoder: a complex negacyclic FFT in double precision, on vector registers.
//!
//! Every path gives the same bits: tables are made on the host, each butterfly is the same multiplications, additions and
//! explicit fused multiply-adds of the same operands, and their order along a value's way is fixed. Which butterflies
//! share a vector, or a pass over memory, does not show.

use std::f64::consts::PI;
use std::ops::{Add, Mul, Sub};

use pulp::{Arch, Simd, WithSimd};

/// A complex number.
///
/// ```
/// use arras_ckks::fft::Complex;
///
/// let i = Complex::unit(1, 4);
/// assert_eq!(i, Complex::new(0.0, 1.0));
/// assert_eq!(i * i, Complex::new(-1.0, 0.0));
/// assert_eq!((i + Complex::new(2.0, 0.0)).conjugate().scale(0.5), Complex::new(1.0, -0.5));
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Complex {
    /// Real part.
    pub re: f64,
    /// Imaginary part.
    pub im: f64,
}

impl Complex {
    /// `re + i im`.
    pub const fn new(re: f64, im: f64) -> Self {
        Self { re, im }
    }

    /// `exp(2 pi i numerator / denominator)`, correct to about an ulp: the angle is brought to `[0, pi/4]` as a fraction,
    /// so that multiples of a quarter and an eighth of a turn come out exact or equal.
    pub fn unit(numerator: usize, denominator: usize) -> Self {
        let (eighths, denominator) = (8 * (numerator % denominator), denominator);
        let (octant, rest) = (eighths / denominator, eighths % denominator);
        let odd = octant % 2 == 1;
        let part = if odd { denominator - rest } else { rest };
        let (sin, cos) = (PI / 4.0 * (part as f64 / denominator as f64)).sin_cos();
        let (re, im) = if odd { (sin, cos) } else { (cos, sin) };
        match octant / 2 {
            0 => Self { re, im },
            1 => Self { re: -im, im: re },
            2 => Self { re: -re, im: -im },
            _ => Self { re: im, im: -re },
        }
    }

    /// The complex conjugate.
    pub const fn conjugate(self) -> Self {
        Self { re: self.re, im: -self.im }
    }

    /// Both parts times `factor`.
    pub fn scale(self, factor: f64) -> Self {
        Self { re: self.re * factor, im: self.im * factor }
    }
}

impl Add for Complex {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { re: self.re + other.re, im: self.im + other.im }
    }
}

impl Sub for Complex {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { re: self.re - other.re, im: self.im - other.im }
    }
}

impl Mul for Complex {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self {
            re: (-self.im).mul_add(other.im, self.re * other.re),
            im: self.im.mul_add(other.re, self.re * other.im),
        }
    }
}

/// Levels of butterflies in one pass over memory, at most.
const PASS: u32 = 3;
/// Values that stay in the first-level cache.
const BLOCK: usize = 1 << 10;
/// Values of a leaf, whose six levels are done in one go.
const LEAF: usize = 64;
/// Rows of a leaf, and values in a row.
const SIDE: usize = 8;

/// Values of polynomials modulo `Y^n - i` at its n roots `zeta^(4 t + 1)`, `zeta = exp(i pi / 2n)`, for n a power of two.
///
/// The recursion is that of a negacyclic number-theoretic transform: modulo `Y^2m - w^2` a polynomial splits into one
/// modulo `Y^m - w` and one modulo `Y^m + w`, with one factor for the whole block. Real and imaginary parts lie apart.
#[derive(Debug)]
pub(crate) struct Fft {
    arch: Arch,
    size: usize,
    /// The factor of block `j` of `2^k` is at `2^k + j`.
    factors: Vec<Complex>,
    /// For sizes of whole leaves, leaf by leaf: the factors of the last three levels in the order of a leaf's columns.
    /// Entry k has the real and the imaginary parts for node k of the three levels; entry 0 is not used.
    tails: Vec<[[[f64; SIDE]; 2]; SIDE]>,
    /// Levels before the leaves: the first level of each pass and their number.
    passes: Vec<(u32, u32)>,
}

/// Node `below` of the tree whose root is node `root` of the whole one, both counted as in a heap.
fn descendant(root: usize, below: usize) -> usize {
    let level = below.ilog2();
    (root << level) + below - (1 << level)
}

impl Fft {
    /// Tables for `size` values, a power of two, on the best path of this processor.
    pub(crate) fn new(size: usize) -> Self {
        Self::on(Arch::new(), size)
    }

    fn on(arch: Arch, size: usize) -> Self {
        let mut factors = vec![Complex::default(); size];
        for (node, factor) in factors.iter_mut().enumerate().skip(1) {
            let level = node.ilog2();
            let reversed = (node - (1 << level)).reverse_bits().unbounded_shr(usize::BITS - level);
            *factor = Complex::unit(1 + 4 * reversed, 8 << level);
        }
        let tail = |leaf| {
            let factor = |below, column| factors[descendant((size + LEAF * leaf) / SIDE + column, below)];
            let mut tail = [[[0.0; SIDE]; 2]; SIDE];
            for (below, [re, im]) in tail.iter_mut().enumerate().skip(1) {
                *re = std::array::from_fn(|column| factor(below, column).re);
                *im = std::array::from_fn(|column| factor(below, column).im);
            }
            tail
        };
        let (mut passes, mut before, mut rest) = (Vec::new(), 0, (size / LEAF).max(1).ilog2());
        while rest > 0 {
            // As few passes as possible, the larger ones first.
            let levels = rest.div_ceil(rest.div_ceil(PASS));
            passes.push((before, levels));
            (before, rest) = (before + levels, rest - levels);
        }
        Self { arch, size, tails: (0..size / LEAF).map(tail).collect(), factors, passes }
    }

    /// Where the value at `zeta^(4 t + 1)` stands after [`forward`](Self::forward).
    pub(crate) fn place(&self, t: usize) -> usize {
        let reversed = t.reverse_bits().unbounded_shr(usize::BITS - self.size.trailing_zeros());
        if self.size < LEAF {
            return reversed;
        }
        // Leaves are left transposed.
        let (row, column) = (reversed / SIDE % SIDE, reversed % SIDE);
        reversed - reversed % LEAF + SIDE * column + row
    }

    /// From coefficients to values, in the order of [`place`](Self::place).
    ///
    /// # Panics
    /// If there are not `size` real and `size` imaginary parts.
    pub(crate) fn forward(&self, re: &mut [f64], im: &mut [f64]) {
        assert!(re.len() == self.size && im.len() == self.size);
        if self.size < LEAF {
            return self.small_forward(re, im);
        }
        self.arch.dispatch(Forward { fft: self, re, im });
    }

    /// The inverse of [`forward`](Self::forward), times `size`.
    ///
    /// # Panics
    /// As there.
    pub(crate) fn inverse(&self, re: &mut [f64], im: &mut [f64]) {
        assert!(re.len() == self.size && im.len() == self.size);
        if self.size < LEAF {
            return self.small_inverse(re, im);
        }
        self.arch.dispatch(Inverse { fft: self, re, im });
    }

    /// Level by level, for less than a leaf: also what the vectors are compared with.
    fn small_forward(&self, re: &mut [f64], im: &mut [f64]) {
        for level in 0..self.size.ilog2() {
            let half = self.size >> (level + 1);
            for (block, &w) in self.factors[1 << level..2 << level].iter().enumerate() {
                for i in (0..half).map(|i| 2 * half * block + i) {
                    let (x, y) = (Complex::new(re[i], im[i]), Complex::new(re[i + half], im[i + half]));
                    let (sum, difference) = (x + w * y, x - w * y);
                    (re[i], im[i], re[i + half], im[i + half]) =
                        (sum.re, sum.im, difference.re, difference.im);
                }
            }
        }
    }

    /// The same backwards.
    fn small_inverse(&self, re: &mut [f64], im: &mut [f64]) {
        for level in (0..self.size.ilog2()).rev() {
            let half = self.size >> (level + 1);
            for (block, &w) in self.factors[1 << level..2 << level].iter().enumerate() {
                for i in (0..half).map(|i| 2 * half * block + i) {
                    let (x, y) = (Complex::new(re[i], im[i]), Complex::new(re[i + half], im[i + half]));
                    let (sum, difference) = (x + y, w.conjugate() * (x - y));
                    (re[i], im[i], re[i + half], im[i + half]) =
                        (sum.re, sum.im, difference.re, difference.im);
                }
            }
        }
    }

    /// The factors of `R - 1` nodes from `root` down, each in all lanes.
    #[inline(always)]
    fn splat<S: Simd, const R: usize>(&self, simd: S, root: usize) -> Factors<S, R> {
        let mut factors = [(simd.splat_f64s(0.0), simd.splat_f64s(0.0)); R];
        for (below, factor) in factors.iter_mut().enumerate().skip(1) {
            let Complex { re, im } = self.factors[descendant(root, below)];
            *factor = (simd.splat_f64s(re), simd.splat_f64s(im));
        }
        factors
    }

    /// One pass over a stretch that begins at value `start` of the whole.
    #[inline(always)]
    fn sweep<S: Simd>(
        &self,
        simd: S,
        (before, levels): (u32, u32),
        start: usize,
        re: &mut [f64],
        im: &mut [f64],
        way: impl Way,
    ) {
        let group = self.size >> before;
        let first = (1 << before) + start / group;
        for (root, (re, im)) in (first..).zip(re.chunks_exact_mut(group).zip(im.chunks_exact_mut(group))) {
            match levels {
                1 => pass::<S, 2>(simd, re, im, way, self.splat(simd, root)),
                2 => pass::<S, 4>(simd, re, im, way, self.splat(simd, root)),
                _ => pass::<S, 8>(simd, re, im, way, self.splat(simd, root)),
            }
        }
    }

    /// How many passes go over everything before blocks are taken one by one, and the values of such a block.
    fn outer(&self) -> (usize, usize) {
        let outer = self.passes.iter().filter(|&&(before, _)| self.size >> before > BLOCK).count();
        let levels: u32 = self.passes[..outer].iter().map(|&(_, levels)| levels).sum();
        (outer, self.size >> levels)
    }
}

/// The factors of the `R - 1` nodes of log2 R levels as a heap, so that entry 0 is not used.
type Factors<S, const R: usize> = [(<S as Simd>::f64s, <S as Simd>::f64s); R];

/// Butterflies among R values of each lane.
trait Way: Copy {
    fn butterflies<S: Simd, const R: usize>(
        self,
        simd: S,
        re: &mut [S::f64s; R],
        im: &mut [S::f64s; R],
        factors: &Factors<S, R>,
    );
}

/// `(x, y)` to `(x + w y, x - w y)`, from far to near.
#[derive(Clone, Copy)]
struct Down;

impl Way for Down {
    #[inline(always)]
    fn butterflies<S: Simd, const R: usize>(
        self,
        simd: S,
        re: &mut [S::f64s; R],
        im: &mut [S::f64s; R],
        factors: &Factors<S, R>,
    ) {
        for level in 0..R.ilog2() {
            let half = R >> (level + 1);
            for block in 0..1 << level {
                let (w_re, w_im) = factors[(1 << level) + block];
                for i in 2 * half * block..2 * half * block + half {
                    let (y_re, y_im) = (re[i + half], im[i + half]);
                    let t_re = simd.mul_add_f64s(simd.neg_f64s(w_im), y_im, simd.mul_f64s(w_re, y_re));
                    let t_im = simd.mul_add_f64s(w_im, y_re, simd.mul_f64s(w_re, y_im));
                    (re[i + half], im[i + half]) = (simd.sub_f64s(re[i], t_re), simd.sub_f64s(im[i], t_im));
                    (re[i], im[i]) = (simd.add_f64s(re[i], t_re), simd.add_f64s(im[i], t_im));
                }
            }
        }
    }
}

/// `(x, y)` to `(x + y, conj(w) (x - y))`, from near to far.
#[derive(Clone, Copy)]
struct Up;

impl Way for Up {
    #[inline(always)]
    fn butterflies<S: Simd, const R: usize>(
        self,
        simd: S,
        re: &mut [S::f64s; R],
        im: &mut [S::f64s; R],
        factors: &Factors<S, R>,
    ) {
        for level in (0..R.ilog2()).rev() {
            let half = R >> (level + 1);
            for block in 0..1 << level {
                let (w_re, w_im) = factors[(1 << level) + block];
                for i in 2 * half * block..2 * half * block + half {
                    let d_re = simd.sub_f64s(re[i], re[i + half]);
                    let d_im = simd.sub_f64s(im[i], im[i + half]);
                    (re[i], im[i]) = (simd.add_f64s(re[i], re[i + half]), simd.add_f64s(im[i], im[i + half]));
                    re[i + half] = simd.mul_add_f64s(w_im, d_im, simd.mul_f64s(w_re, d_re));
                    im[i + half] = simd.mul_add_f64s(simd.neg_f64s(w_im), d_re, simd.mul_f64s(w_re, d_im));
                }
            }
        }
    }
}

/// Butterflies down the columns of R rows, which share their factors.
#[inline(always)]
fn pass<S: Simd, const R: usize>(
    simd: S,
    re: &mut [f64],
    im: &mut [f64],
    way: impl Way,
    factors: Factors<S, R>,
) {
    let (re, im) = (S::as_mut_simd_f64s(re).0, S::as_mut_simd_f64s(im).0);
    for column in 0..re.len() / R {
        columns(simd, re, im, column, way, &factors);
    }
}

/// Butterflies down one column of vectors.
#[inline(always)]
fn columns<S: Simd, const R: usize>(
    simd: S,
    re: &mut [S::f64s],
    im: &mut [S::f64s],
    column: usize,
    way: impl Way,
    factors: &Factors<S, R>,
) {
    let stride = re.len() / R;
    let mut x: [S::f64s; R] = std::array::from_fn(|row| re[row * stride + column]);
    let mut y: [S::f64s; R] = std::array::from_fn(|row| im[row * stride + column]);
    way.butterflies(simd, &mut x, &mut y, factors);
    for row in 0..R {
        (re[row * stride + column], im[row * stride + column]) = (x[row], y[row]);
    }
}

/// The last three levels of a transposed leaf: columns are blocks, with factors of their own.
#[inline(always)]
fn tail<S: Simd>(simd: S, re: &mut [f64], im: &mut [f64], way: impl Way, factors: &[[[f64; SIDE]; 2]; SIDE]) {
    let (re, im) = (S::as_mut_simd_f64s(re).0, S::as_mut_simd_f64s(im).0);
    for column in 0..SIDE / S::F64_LANES {
        let part = |row: &[f64; SIDE]| S::as_simd_f64s(row).0[column];
        let factors: Factors<S, SIDE> = std::array::from_fn(|k| (part(&factors[k][0]), part(&factors[k][1])));
        columns(simd, re, im, column, way, &factors);
    }
}

/// Rows to columns.
#[inline(always)]
fn transpose(leaf: &mut [f64]) {
    let Some(leaf) = leaf.first_chunk_mut::<LEAF>() else { return };
    let rows = *leaf;
    for (i, value) in leaf.iter_mut().enumerate() {
        *value = rows[i % SIDE * SIDE + i / SIDE];
    }
}

struct Forward<'a> {
    fft: &'a Fft,
    re: &'a mut [f64],
    im: &'a mut [f64],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { fft, re, im } = self;
        let (outer, block) = fft.outer();
        let (outer, inner) = fft.passes.split_at(outer);
        for &levels in outer {
            fft.sweep(simd, levels, 0, re, im, Down);
        }
        for (b, (re, im)) in re.chunks_exact_mut(block).zip(im.chunks_exact_mut(block)).enumerate() {
            for &levels in inner {
                fft.sweep(simd, levels, b * block, re, im, Down);
            }
            let first = b * block / LEAF;
            for (leaf, (re, im)) in (first..).zip(re.chunks_exact_mut(LEAF).zip(im.chunks_exact_mut(LEAF))) {
                pass::<S, SIDE>(simd, re, im, Down, fft.splat(simd, fft.size / LEAF + leaf));
                transpose(re);
                transpose(im);
                tail(simd, re, im, Down, &fft.tails[leaf]);
            }
        }
    }
}

struct Inverse<'a> {
    fft: &'a Fft,
    re: &'a mut [f64],
    im: &'a mut [f64],
}

impl WithSimd for Inverse<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { fft, re, im } = self;
        let (outer, block) = fft.outer();
        let (outer, inner) = fft.passes.split_at(outer);
        for (b, (re, im)) in re.chunks_exact_mut(block).zip(im.chunks_exact_mut(block)).enumerate() {
            let first = b * block / LEAF;
            for (leaf, (re, im)) in (first..).zip(re.chunks_exact_mut(LEAF).zip(im.chunks_exact_mut(LEAF))) {
                tail(simd, re, im, Up, &fft.tails[leaf]);
                transpose(re);
                transpose(im);
                pass::<S, SIDE>(simd, re, im, Up, fft.splat(simd, fft.size / LEAF + leaf));
            }
            for &levels in inner.iter().rev() {
                fft.sweep(simd, levels, b * block, re, im, Up);
            }
        }
        for &levels in outer.iter().rev() {
            fft.sweep(simd, levels, 0, re, im, Up);
        }
    }
}

/// The transform on one path beside the plain loops, for trials.
#[cfg(feature = "testkit")]
pub mod paths {
    use pulp::Arch;

    use super::Fft;

    /// All paths; which of them there are depends on the processor.
    pub const NAMES: [&str; 4] = ["scalar", "x86-64-v3", "x86-64-v4", "neon"];

    /// Whether this processor has a path.
    pub fn has(name: &str) -> bool {
        path(name).is_some()
    }

    fn path(name: &str) -> Option<Arch> {
        match name {
            "scalar" => Some(Arch::Scalar),
            #[cfg(target_arch = "x86_64")]
            "x86-64-v3" => pulp::x86::V3::try_new().map(Arch::V3),
            #[cfg(target_arch = "x86_64")]
            "x86-64-v4" => pulp::x86::V4::try_new().map(Arch::V4),
            #[cfg(target_arch = "aarch64")]
            "neon" => pulp::aarch64::Neon::try_new().map(Arch::Neon),
            _ => None,
        }
    }

    /// The first of the sizes `2^2 ..= 2^16` at which a path does not give the bits of the plain loops, either way.
    ///
    /// # Errors
    /// That size; 0 if the processor lacks the path.
    pub fn compare(name: &str) -> Result<(), usize> {
        let arch = path(name).ok_or(0usize)?;
        (2..=16)
            .map(|log_size| 1 << log_size)
            .try_for_each(|size| agrees(arch, size).then_some(()).ok_or(size))
    }

    fn agrees(arch: Arch, size: usize) -> bool {
        let fft = Fft::on(arch, size);
        let wave = |f: f64| (0..size).map(|i| (i as f64 * f).sin() * 1e10).collect::<Vec<_>>();
        let (mut re, mut im) = (wave(0.7), wave(1.3));
        let (mut plain_re, mut plain_im) = (re.clone(), im.clone());
        fft.forward(&mut re, &mut im);
        fft.small_forward(&mut plain_re, &mut plain_im);
        // From the transposed leaves to plain bit-reversed order.
        let shift = usize::BITS - size.trailing_zeros();
        let place = |i: usize| fft.place(i.reverse_bits() >> shift);
        let same = |x: &f64, y: &f64| x.to_bits() == y.to_bits();
        let forth = (0..size).all(|i| same(&re[place(i)], &plain_re[i]) && same(&im[place(i)], &plain_im[i]));
        fft.inverse(&mut re, &mut im);
        fft.small_inverse(&mut plain_re, &mut plain_im);
        let back = re.iter().zip(&plain_re).chain(im.iter().zip(&plain_im)).all(|(x, y)| same(x, y));
        forth && back
    }
}

#[cfg(test)]
mod tests {
    use super::{Complex, Fft};

    fn values(size: usize) -> (Vec<f64>, Vec<f64>) {
        let wave = |f: f64| (0..size).map(|i| (i as f64 * f).sin() * 1e10).collect();
        (wave(0.7), wave(1.3))
    }

    /// Against the definition, and forth and back: errors of a few roundings per level.
    #[test]
    fn values_are_those_of_the_polynomial() {
        for size in [4, 32, 64, 128, 512] {
            let fft = Fft::new(size);
            let (re, im) = values(size);
            let (mut fast_re, mut fast_im) = (re.clone(), im.clone());
            fft.forward(&mut fast_re, &mut fast_im);
            let largest = 1e10 * (size as f64);
            for t in 0..size {
                let sum = (0..size).fold(Complex::default(), |sum, k| {
                    sum + Complex::unit((4 * t + 1) * k, 4 * size) * Complex::new(re[k], im[k])
                });
                let found = Complex::new(fast_re[fft.place(t)], fast_im[fft.place(t)]);
                assert!((found - sum).re.hypot((found - sum).im) < 1e-15 * largest * (size as f64).sqrt());
            }
            fft.inverse(&mut fast_re, &mut fast_im);
            for k in 0..size {
                let size = size as f64;
                let error = (fast_re[k] / size - re[k]).hypot(fast_im[k] / size - im[k]);
                assert!(error < 1e10 * 1e-15 * size.log2(), "{error:e}");
            }
        }
    }

    #[test]
    fn units_are_exact_where_they_can_be() {
        for (k, re, im) in [(0, 1.0, 0.0), (2, 0.0, 1.0), (4, -1.0, 0.0), (6, 0.0, -1.0), (8, 1.0, 0.0)] {
            assert_eq!(Complex::unit(k, 8), Complex::new(re, im));
        }
        for (k, n) in [(1, 7), (5, 8), (100, 4096), (4095, 4096), (2731, 4096)] {
            let (sin, cos) = (2.0 * std::f64::consts::PI * k as f64 / n as f64).sin_cos();
            let found = Complex::unit(k, n);
            assert!((found.re - cos).abs() < 1e-15 && (found.im - sin).abs() < 1e-15, "{k}/{n}");
        }
    }
}
