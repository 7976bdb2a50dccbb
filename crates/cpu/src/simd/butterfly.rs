//! Four ways to multiply by a root of unity lazily, and the butterflies built on them.
//!
//! | arithmetic | modulus | a product lies in | values between forward levels | between inverse passes |
//! |---|---|---|---|---|
//! | [`Lazy52`] | (4 log2 N + 2) q <= 2^52 | `[0, 2q)` mod 2^52 | `[0, (4 log2 N + 1) q)` mod 2^52 | `[0, 8q)` mod 2^52 |
//! | [`Harvey52`] | q < 2^50 | `[0, 2q)` | `[0, 4q)` | `[0, 2q)` |
//! | [`Wide52`] | q < 2^60 | `[0, 4q)` | `[0, 16q)` | `[0, 4q)` |
//! | [`Shoup64`] | q < 2^60 | `[0, 4q)` | `[0, 16q)`, on AVX2 `[0, 8q)` | `[0, 4q)` |
//!
//! "mod 2^52" means that bits 52 and up of a lane are noise. The multipliers of IFMA ignore them, so they are cleared
//! only once, at the end.

use core::arch::x86_64::__m512i;
use core::fmt::Debug;

use arras_rns::Modulus;

use super::lanes::{Avx512, Ifma, Lanes};

/// A constant factor modulo q as the words its multiplication needs, at most three.
pub(crate) type FactorWords = [u64; 3];

/// Lazy modular multiplication by constants, on vectors, with the butterflies that go with it.
pub(crate) trait Butterflies: Copy + Send + Sync + Debug {
    /// The vectors.
    type L: Lanes;
    /// A factor in every lane.
    type Factor: Copy;
    /// Words of a factor in the tables.
    const FACTOR_WORDS: usize;
    /// Whether two columns side by side are faster than one: a matter of instructions waiting for each other on one side
    /// and of registers on the other.
    const PAIRED_COLUMNS: bool;

    /// Whether products of the same limb take values between forward levels, uncorrected.
    const LOOSE: bool = false;

    /// The vectors.
    fn lanes(self) -> Self::L;

    /// The words of a factor, `FACTOR_WORDS` of them and then zeros.
    fn factor_words(q: Modulus, value: u64) -> FactorWords;

    /// One factor for all lanes.
    ///
    /// # Safety
    /// `FACTOR_WORDS` words can be read.
    unsafe fn splat_factor(self, from: *const u64) -> Self::Factor;

    /// Whether tables have the factors of levels inside vectors once each, not once for every lane. They are smaller then, which
    /// pays where a butterfly has few instructions, so that many tables and much data pass through the caches.
    const SPREAD: bool;

    /// The factors of a level inside a pair of vectors, stored word by word.
    ///
    /// # Safety
    /// `FACTOR_WORDS` times as many words can be read as the level has factors, or lanes.
    unsafe fn load_factors(self, level: usize, descending: bool, from: *const u64) -> Self::Factor;

    /// The lazy product.
    fn multiply(self, x: V<Self>, factor: Self::Factor) -> V<Self>;

    /// What is added to the first half of the inputs of a forward transform.
    fn bias(self, x: V<Self>) -> V<Self>;

    /// `(x + y w, x - y w)`; `level` counts from 0 within a pass.
    fn forward(self, level: usize, x: V<Self>, y: V<Self>, w: Self::Factor) -> (V<Self>, V<Self>);

    /// [`forward`](Self::forward) of canonical operands, as the first level of a transform.
    #[inline(always)]
    fn forward_first(self, x: V<Self>, y: V<Self>, w: Self::Factor) -> (V<Self>, V<Self>) {
        self.forward(0, x, y, w)
    }

    /// [`forward`](Self::forward) with canonical results, as the last level of a transform.
    #[inline(always)]
    fn forward_last(self, level: usize, x: V<Self>, y: V<Self>, w: Self::Factor) -> (V<Self>, V<Self>) {
        let (x, y) = self.forward(level, x, y, w);
        (self.canonical(x), self.canonical(y))
    }

    /// `(x + y, (x - y) w)`, with what the arithmetic needs of the bias.
    fn inverse(self, bias: Bias, x: V<Self>, y: V<Self>, w: Self::Factor) -> (V<Self>, V<Self>);

    /// Takes back so many times q that biases have added to a sum, if the arithmetic has added them.
    #[inline(always)]
    fn lower(self, x: V<Self>, _multiple: u64) -> V<Self> {
        x
    }

    /// Brings the sum of all inputs of an inverse pass back into the range between passes.
    fn settle(self, x: V<Self>) -> V<Self>;

    /// The canonical residue of a value between forward levels.
    fn canonical(self, x: V<Self>) -> V<Self>;

    /// The canonical residue of a lazy product.
    fn canonical_product(self, x: V<Self>) -> V<Self>;
}

/// What keeps the differences of an inverse butterfly from becoming negative where nothing is corrected in between, in
/// multiples of q. A bias of the first operand or of the product goes on to the next levels, which need none of their
/// own then; that of a product costs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bias {
    /// Added to the first operand, so that the sum has it, too.
    pub(crate) first: u64,
    /// Added to the difference.
    pub(crate) difference: u64,
    /// Added to the product.
    pub(crate) product: u64,
}

/// The vectors of an arithmetic.
pub(crate) type V<B> = <<B as Butterflies>::L as Lanes>::V;

/// `floor(value * 2^52 / q)`.
fn quotient52(q: Modulus, value: u64) -> u64 {
    ((u128::from(value) << 52) / u128::from(q.value())) as u64
}

/// Constants shared by the arithmetics on IFMA.
#[derive(Clone, Copy, Debug)]
struct Constants52 {
    lanes: Avx512,
    ifma: Ifma,
    q: u64,
}

impl Constants52 {
    #[inline(always)]
    fn times_q(self, k: u64) -> __m512i {
        self.lanes.splat(k.wrapping_mul(self.q))
    }

    #[inline(always)]
    fn mask(self, x: __m512i) -> __m512i {
        self.lanes.and(x, self.lanes.splat((1 << 52) - 1))
    }

    /// `sum + x w mod q`, where the product lies in `[0, 2q)`, everything mod 2^52: three instructions.
    #[inline(always)]
    fn multiply_add(self, sum: __m512i, x: __m512i, [w, quotient]: [__m512i; 2]) -> __m512i {
        let estimate = self.ifma.madd_high(self.lanes.splat(0), x, quotient);
        let sum = self.ifma.madd_low(sum, x, w);
        self.ifma.madd_low(sum, estimate, self.lanes.splat((1 << 52) - self.q))
    }

    #[inline(always)]
    unsafe fn splat_factor(self, from: *const u64) -> [__m512i; 2] {
        // SAFETY: the caller's promise.
        unsafe { [self.lanes.splat(*from), self.lanes.splat(*from.add(1))] }
    }
}

/// No correction at all between the first level and the last: q below 2^46, or a little less for large N.
///
/// Forward, each level moves a value by less than 2q either way. A bias of 2q log2 N, added once to the inputs that all
/// outputs inherit from, keeps them from becoming negative; the largest is then below (4 log2 N + 1) q. Inverse, a sum
/// doubles the bound: three levels lead from 8q to 64q, and one vector in eight is reduced. There each [`Bias`] is chosen
/// such that every difference lies in `[0, 64q)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lazy52 {
    c: Constants52,
    bias: u64,
    barrett: u64,
}

impl Lazy52 {
    /// If the range condition holds for this modulus and degree.
    pub(crate) fn new(lanes: Avx512, ifma: Ifma, q: Modulus, log_degree: u32) -> Option<Self> {
        let levels = u64::from(log_degree);
        let fits = |multiple: u64| q.value() <= (1 << 52) / multiple;
        // One multiple more than its values need, for differences of them and canonical residues.
        (fits(4 * levels + 2) && fits(64)).then(|| Self {
            c: Constants52 { lanes, ifma, q: q.value() },
            bias: 2 * levels * q.value(),
            barrett: quotient52(q, 1),
        })
    }
}

impl Lazy52 {
    /// The multiple of q that values between forward levels stay below.
    pub(crate) fn largest(log_degree: u32) -> u64 {
        4 * u64::from(log_degree) + 1
    }
}

impl Butterflies for Lazy52 {
    type L = Avx512;
    type Factor = [__m512i; 2];
    const FACTOR_WORDS: usize = 2;
    const PAIRED_COLUMNS: bool = false;
    const SPREAD: bool = true;
    const LOOSE: bool = true;

    #[inline(always)]
    fn lanes(self) -> Avx512 {
        self.c.lanes
    }

    fn factor_words(q: Modulus, value: u64) -> FactorWords {
        [value, quotient52(q, value), 0]
    }

    #[inline(always)]
    unsafe fn splat_factor(self, from: *const u64) -> Self::Factor {
        // SAFETY: the caller's promise.
        unsafe { self.c.splat_factor(from) }
    }

    #[inline(always)]
    unsafe fn load_factors(self, level: usize, descending: bool, from: *const u64) -> Self::Factor {
        // SAFETY: the caller's promise.
        unsafe {
            [
                self.c.lanes.load_spread(level, descending, from),
                self.c.lanes.load_spread(level, descending, from.add(2 << level)),
            ]
        }
    }

    #[inline(always)]
    fn multiply(self, x: __m512i, w: Self::Factor) -> __m512i {
        self.c.multiply_add(self.c.lanes.splat(0), x, w)
    }

    #[inline(always)]
    fn bias(self, x: __m512i) -> __m512i {
        self.c.lanes.add(x, self.c.lanes.splat(self.bias))
    }

    #[inline(always)]
    fn forward(self, _: usize, x: __m512i, y: __m512i, w: Self::Factor) -> (__m512i, __m512i) {
        let sum = self.c.multiply_add(x, y, w);
        (sum, self.c.lanes.sub(self.c.lanes.add(x, x), sum))
    }

    #[inline(always)]
    fn inverse(self, bias: Bias, x: __m512i, y: __m512i, w: Self::Factor) -> (__m512i, __m512i) {
        let raised =
            |x, multiple| if multiple == 0 { x } else { self.c.lanes.add(x, self.c.times_q(multiple)) };
        let x = raised(x, bias.first);
        let difference = self.c.lanes.sub(raised(x, bias.difference), y);
        (self.c.lanes.add(x, y), self.c.multiply_add(self.c.times_q(bias.product), difference, w))
    }

    #[inline(always)]
    fn lower(self, x: __m512i, multiple: u64) -> __m512i {
        self.c.lanes.sub(x, self.c.times_q(multiple))
    }

    #[inline(always)]
    fn settle(self, x: __m512i) -> __m512i {
        // Barrett: the estimated quotient is at most one short.
        let quotient = self.c.ifma.madd_high(self.c.lanes.splat(0), x, self.c.lanes.splat(self.barrett));
        self.c.ifma.madd_low(x, quotient, self.c.lanes.splat((1 << 52) - self.c.q))
    }

    #[inline(always)]
    fn canonical(self, x: __m512i) -> __m512i {
        self.canonical_product(self.settle(x))
    }

    #[inline(always)]
    fn canonical_product(self, x: __m512i) -> __m512i {
        self.c.lanes.reduce_once(self.c.mask(x), self.c.times_q(1))
    }
}

/// Harvey's butterflies on 52-bit products, q < 2^50.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Harvey52(Constants52);

impl Harvey52 {
    /// If the modulus has at most 50 bits.
    pub(crate) fn new(lanes: Avx512, ifma: Ifma, q: Modulus) -> Option<Self> {
        (q.bits() <= 50).then(|| Self(Constants52 { lanes, ifma, q: q.value() }))
    }
}

impl Butterflies for Harvey52 {
    type L = Avx512;
    type Factor = [__m512i; 2];
    const FACTOR_WORDS: usize = 2;
    const PAIRED_COLUMNS: bool = true;
    const SPREAD: bool = false;

    #[inline(always)]
    fn lanes(self) -> Avx512 {
        self.0.lanes
    }

    fn factor_words(q: Modulus, value: u64) -> FactorWords {
        [value, quotient52(q, value), 0]
    }

    #[inline(always)]
    unsafe fn splat_factor(self, from: *const u64) -> Self::Factor {
        // SAFETY: the caller's promise.
        unsafe { self.0.splat_factor(from) }
    }

    #[inline(always)]
    unsafe fn load_factors(self, level: usize, descending: bool, from: *const u64) -> Self::Factor {
        // SAFETY: the caller's promise.
        unsafe {
            [
                self.0.lanes.load_lanes(level, descending, from),
                self.0.lanes.load_lanes(level, descending, from.add(8)),
            ]
        }
    }

    #[inline(always)]
    fn multiply(self, x: __m512i, w: Self::Factor) -> __m512i {
        self.0.mask(self.0.multiply_add(self.0.lanes.splat(0), x, w))
    }

    #[inline(always)]
    fn bias(self, x: __m512i) -> __m512i {
        x
    }

    #[inline(always)]
    fn forward(self, _: usize, x: __m512i, y: __m512i, w: Self::Factor) -> (__m512i, __m512i) {
        let lanes = self.0.lanes;
        let (x, t) = (lanes.reduce_once(x, self.0.times_q(2)), self.multiply(y, w));
        (lanes.add(x, t), lanes.sub(lanes.add(x, self.0.times_q(2)), t))
    }

    #[inline(always)]
    fn forward_first(self, x: __m512i, y: __m512i, w: Self::Factor) -> (__m512i, __m512i) {
        let (lanes, t) = (self.0.lanes, self.multiply(y, w));
        (lanes.add(x, t), lanes.sub(lanes.add(x, self.0.times_q(2)), t))
    }

    // The difference lies in (-2q, 2q), and a negative one is a very large word.
    #[inline(always)]
    fn forward_last(self, _: usize, x: __m512i, y: __m512i, w: Self::Factor) -> (__m512i, __m512i) {
        let lanes = self.0.lanes;
        let (x, t) = (lanes.reduce_once(x, self.0.times_q(2)), self.multiply(y, w));
        let difference = lanes.raise_once(lanes.sub(x, t), self.0.times_q(2));
        (self.canonical(lanes.add(x, t)), self.canonical_product(difference))
    }

    #[inline(always)]
    fn inverse(self, _: Bias, x: __m512i, y: __m512i, w: Self::Factor) -> (__m512i, __m512i) {
        let lanes = self.0.lanes;
        let difference = lanes.sub(lanes.add(x, self.0.times_q(2)), y);
        (lanes.reduce_once(lanes.add(x, y), self.0.times_q(2)), self.multiply(difference, w))
    }

    #[inline(always)]
    fn settle(self, x: __m512i) -> __m512i {
        x
    }

    #[inline(always)]
    fn canonical(self, x: __m512i) -> __m512i {
        self.canonical_product(self.0.lanes.reduce_once(x, self.0.times_q(2)))
    }

    #[inline(always)]
    fn canonical_product(self, x: __m512i) -> __m512i {
        self.0.lanes.reduce_once(x, self.0.times_q(1))
    }
}

/// Any q < 2^60 on IFMA: with `y = y1 2^52 + y0`, the quotient of `y w` by q is `y1 w' + (y0 w' + y1 w'') / 2^52`, where
/// `w' = floor(w 2^52 / q)` and `w''` are its next 52 bits. Both roundings and the bits of `w'` left out with `y0` cost
/// less than one each, so the product is below 4q, for any word `y`. Seven instructions, two of them accumulating.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wide52(Constants52);

impl Wide52 {
    /// For any modulus.
    pub(crate) fn new(lanes: Avx512, ifma: Ifma, q: Modulus) -> Self {
        Self(Constants52 { lanes, ifma, q: q.value() })
    }
}

impl Butterflies for Wide52 {
    type L = Avx512;
    type Factor = [__m512i; 3];
    const FACTOR_WORDS: usize = 3;
    const PAIRED_COLUMNS: bool = true;
    const SPREAD: bool = false;

    #[inline(always)]
    fn lanes(self) -> Avx512 {
        self.0.lanes
    }

    fn factor_words(q: Modulus, value: u64) -> FactorWords {
        let rest = ((u128::from(value) << 52) % u128::from(q.value())) as u64;
        [value, quotient52(q, value), quotient52(q, rest)]
    }

    #[inline(always)]
    unsafe fn splat_factor(self, from: *const u64) -> Self::Factor {
        // SAFETY: the caller's promise.
        unsafe { [0, 1, 2].map(|i| self.0.lanes.splat(*from.add(i))) }
    }

    #[inline(always)]
    unsafe fn load_factors(self, level: usize, descending: bool, from: *const u64) -> Self::Factor {
        // SAFETY: the caller's promise.
        unsafe {
            [
                self.0.lanes.load_lanes(level, descending, from),
                self.0.lanes.load_lanes(level, descending, from.add(8)),
                self.0.lanes.load_lanes(level, descending, from.add(16)),
            ]
        }
    }

    #[inline(always)]
    fn multiply(self, x: __m512i, [w, quotient, rest]: Self::Factor) -> __m512i {
        let lanes = self.0.lanes;
        let x1 = lanes.shr::<52>(x);
        let estimate = self.0.ifma.madd_high(lanes.mul_low(x1, quotient), x, quotient);
        let estimate = self.0.ifma.madd_high(estimate, x1, rest);
        lanes.sub(lanes.mul_low(x, w), lanes.mul_low(estimate, self.0.times_q(1)))
    }

    #[inline(always)]
    fn bias(self, x: __m512i) -> __m512i {
        x
    }

    #[inline(always)]
    fn forward(self, level: usize, x: __m512i, y: __m512i, w: Self::Factor) -> (__m512i, __m512i) {
        let lanes = self.0.lanes;
        // Even levels lead from 16q over 8q to 12q, odd ones from 12q to 16q.
        let x = if level.is_multiple_of(2) { lanes.reduce_once(x, self.0.times_q(8)) } else { x };
        let t = self.multiply(y, w);
        (lanes.add(x, t), lanes.sub(lanes.add(x, self.0.times_q(4)), t))
    }

    #[inline(always)]
    fn inverse(self, _: Bias, x: __m512i, y: __m512i, w: Self::Factor) -> (__m512i, __m512i) {
        let lanes = self.0.lanes;
        let difference = lanes.sub(lanes.add(x, self.0.times_q(4)), y);
        (lanes.reduce_once(lanes.add(x, y), self.0.times_q(4)), self.multiply(difference, w))
    }

    #[inline(always)]
    fn settle(self, x: __m512i) -> __m512i {
        x
    }

    #[inline(always)]
    fn canonical(self, x: __m512i) -> __m512i {
        let x = self.0.lanes.reduce_once(x, self.0.times_q(8));
        self.canonical_product(self.0.lanes.reduce_once(x, self.0.times_q(4)))
    }

    #[inline(always)]
    fn canonical_product(self, x: __m512i) -> __m512i {
        let x = self.0.lanes.reduce_once(x, self.0.times_q(2));
        self.0.lanes.reduce_once(x, self.0.times_q(1))
    }
}

/// Any q < 2^60 with Shoup's 64-bit quotients, whose high product may fall short by 2: a product is below 4q.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shoup64<L> {
    lanes: L,
    q: u64,
}

impl<L: Lanes> Shoup64<L> {
    /// For any modulus.
    pub(crate) fn new(lanes: L, q: Modulus) -> Self {
        Self { lanes, q: q.value() }
    }

    #[inline(always)]
    fn times_q(self, k: u64) -> L::V {
        self.lanes.splat(k.wrapping_mul(self.q))
    }
}

impl<L: Lanes> Butterflies for Shoup64<L> {
    type L = L;
    type Factor = [L::V; 2];
    const FACTOR_WORDS: usize = 2;
    const PAIRED_COLUMNS: bool = L::WIDTH == 8;
    const SPREAD: bool = false;

    #[inline(always)]
    fn lanes(self) -> L {
        self.lanes
    }

    fn factor_words(q: Modulus, value: u64) -> FactorWords {
        [value, q.shoup(value), 0]
    }

    #[inline(always)]
    unsafe fn splat_factor(self, from: *const u64) -> Self::Factor {
        // SAFETY: the caller's promise.
        unsafe { [self.lanes.splat(*from), self.lanes.splat(*from.add(1))] }
    }

    #[inline(always)]
    unsafe fn load_factors(self, level: usize, descending: bool, from: *const u64) -> Self::Factor {
        // SAFETY: the caller's promise.
        unsafe {
            [
                self.lanes.load_lanes(level, descending, from),
                self.lanes.load_lanes(level, descending, from.add(L::WIDTH)),
            ]
        }
    }

    #[inline(always)]
    fn multiply(self, x: L::V, [w, quotient]: Self::Factor) -> L::V {
        let estimate = self.lanes.mul_high_approximate(x, quotient);
        self.lanes.sub(self.lanes.mul_low(x, w), self.lanes.mul_low(estimate, self.times_q(1)))
    }

    #[inline(always)]
    fn bias(self, x: L::V) -> L::V {
        x
    }

    #[inline(always)]
    fn forward(self, level: usize, x: L::V, y: L::V, w: Self::Factor) -> (L::V, L::V) {
        // Either as in `Wide52`, or from 8q over 4q to 8q at every level.
        let x = match (L::FULL_RANGE, level % 2) {
            (true, 0) => self.lanes.reduce_once(x, self.times_q(8)),
            (true, _) => x,
            (false, _) => self.lanes.reduce_once(x, self.times_q(4)),
        };
        let t = self.multiply(y, w);
        (self.lanes.add(x, t), self.lanes.sub(self.lanes.add(x, self.times_q(4)), t))
    }

    #[inline(always)]
    fn inverse(self, _: Bias, x: L::V, y: L::V, w: Self::Factor) -> (L::V, L::V) {
        let difference = self.lanes.sub(self.lanes.add(x, self.times_q(4)), y);
        let sum = self.lanes.reduce_once(self.lanes.add(x, y), self.times_q(4));
        (sum, self.multiply(difference, w))
    }

    #[inline(always)]
    fn settle(self, x: L::V) -> L::V {
        x
    }

    #[inline(always)]
    fn canonical(self, x: L::V) -> L::V {
        let x = if L::FULL_RANGE { self.lanes.reduce_once(x, self.times_q(8)) } else { x };
        self.canonical_product(self.lanes.reduce_once(x, self.times_q(4)))
    }

    #[inline(always)]
    fn canonical_product(self, x: L::V) -> L::V {
        self.lanes.reduce_once(self.lanes.reduce_once(x, self.times_q(2)), self.times_q(1))
    }
}
