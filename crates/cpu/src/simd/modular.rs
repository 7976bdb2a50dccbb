//! Products and sums of products of two variable residues: the arithmetic of the row kernels.

use core::arch::x86_64::__m512i;
use core::fmt::Debug;

use arras_rns::Modulus;

use super::butterfly::{Butterflies, Harvey52, Shoup64, V};
use super::lanes::{Avx512, Ifma, Lanes};
use crate::tables::Factor;

/// Arithmetic modulo one prime on vectors of canonical residues.
pub(crate) trait Modular: Copy + Send + Sync + Debug {
    /// Multiplication by constants.
    type B: Butterflies<L = Self::L>;
    /// The vectors.
    type L: Lanes;
    /// A sum of products, not reduced.
    type Sum: Copy;

    /// Multiplication by constants.
    fn constants(self) -> Self::B;

    /// The modulus.
    fn modulus(self) -> Modulus;

    /// A multiple of q, at least as large as the values of a transform for products.
    #[inline(always)]
    fn largest(self) -> u64 {
        self.modulus().value()
    }

    /// A sum of one term, any residue.
    fn sum_of(self, x: V<Self::B>) -> Self::Sum;

    /// How many products can be added to a new or a folded sum.
    fn terms(self) -> usize;

    /// `sum + x y`, one factor canonical, the other a value of a transform for products or below 2^60, or 2^50 if the
    /// modulus is.
    fn accumulate(self, sum: Self::Sum, x: V<Self::B>, y: V<Self::B>) -> Self::Sum;

    /// The same residue as a sum that can take as many terms as a new one.
    fn fold(self, sum: Self::Sum) -> Self::Sum;

    /// The canonical residue.
    fn reduce(self, sum: Self::Sum) -> V<Self::B>;

    /// Reads a sum from its words, three vectors at most.
    ///
    /// # Safety
    /// [`SUM_WORDS`](Self::SUM_WORDS) vectors can be read.
    unsafe fn load_sum(self, from: *const u64) -> Self::Sum;

    /// Writes a sum.
    ///
    /// # Safety
    /// [`SUM_WORDS`](Self::SUM_WORDS) vectors can be written.
    unsafe fn store_sum(self, to: *mut u64, sum: Self::Sum);

    /// Words per lane of a sum.
    const SUM_WORDS: usize;

    /// The vectors.
    #[inline(always)]
    fn lanes(self) -> Self::L {
        self.constants().lanes()
    }

    /// The modulus in every lane.
    #[inline(always)]
    fn q(self) -> V<Self::B> {
        self.lanes().splat(self.modulus().value())
    }

    /// `x + y`.
    #[inline(always)]
    fn add(self, x: V<Self::B>, y: V<Self::B>) -> V<Self::B> {
        self.lanes().reduce_once(self.lanes().add(x, y), self.q())
    }

    /// `x - y`.
    #[inline(always)]
    fn sub(self, x: V<Self::B>, y: V<Self::B>) -> V<Self::B> {
        self.lanes().reduce_once(self.lanes().sub(self.lanes().add(x, self.q()), y), self.q())
    }

    /// `x y`.
    #[inline(always)]
    fn multiply(self, x: V<Self::B>, y: V<Self::B>) -> V<Self::B> {
        self.reduce(self.accumulate(self.sum_of(self.lanes().splat(0)), x, y))
    }

    /// A constant factor in every lane.
    fn factor(self, factor: Factor) -> <Self::B as Butterflies>::Factor;

    /// `x w`.
    #[inline(always)]
    fn scale(self, x: V<Self::B>, w: <Self::B as Butterflies>::Factor) -> V<Self::B> {
        self.constants().canonical_product(self.constants().multiply(x, w))
    }
}

/// q < 2^50 on IFMA. A sum is `high 2^52 + low`, each accumulated by one instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Narrow {
    constants: Harvey52,
    lanes: Avx512,
    ifma: Ifma,
    modulus: Modulus,
    terms: usize,
    largest: u64,
    /// `floor(2^52 / q)`.
    barrett: u64,
    /// 52 less the number k of bits of q, and `floor(2^(k + 51) / q)`.
    shift: u64,
    product_barrett: u64,
    /// `2^52 mod q` and its quotient.
    power52: Factor,
}

impl Narrow {
    /// If the modulus has at most 50 bits. Transforms for products lead to values below `largest` times q, bits from 2^52 on
    /// being noise.
    pub(crate) fn new(lanes: Avx512, ifma: Ifma, modulus: Modulus, largest: u64) -> Option<Self> {
        let constants = Harvey52::new(lanes, ifma, modulus)?;
        let q = modulus.value();
        // One factor is below q and the other below 2^50 or largest q <= 2^52. The upper halves of their products, and 2^12
        // carries from the lower ones, stay below 2^52.
        let upper = if largest > 1 { q } else { (q >> 2) + 1 };
        let terms = (((1u64 << 52) - (1 << 12)) / upper).min((1 << 12) - 2) as usize;
        let bits = modulus.bits();
        let product_barrett = ((1u128 << (bits + 51)) / u128::from(q)) as u64;
        Some(Self {
            constants,
            lanes,
            ifma,
            modulus,
            terms,
            largest: largest * q,
            barrett: (1 << 52) / q,
            shift: u64::from(52 - bits),
            product_barrett,
            power52: Factor::new(modulus, modulus.reduce(1 << 52)),
        })
    }

    /// Both halves with the carry moved up; the upper half is below 2^52.
    #[inline(always)]
    fn carry(self, [low, high]: [__m512i; 2]) -> [__m512i; 2] {
        let mask = self.lanes.splat((1 << 52) - 1);
        [self.lanes.and(low, mask), self.lanes.add(high, self.lanes.shr::<52>(low))]
    }

    /// The canonical residue of any `x < 2^52`, by Barrett.
    #[inline(always)]
    pub(crate) fn residue(self, x: __m512i) -> __m512i {
        let estimate = self.ifma.madd_high(self.lanes.splat(0), x, self.lanes.splat(self.barrett));
        let minus_q = self.lanes.splat((1 << 52) - self.modulus.value());
        let rest = self.ifma.madd_low(x, estimate, minus_q);
        self.constants.canonical_product(self.lanes.and(rest, self.lanes.splat((1 << 52) - 1)))
    }

    /// `x 2^52` in `[0, 2q)`.
    #[inline(always)]
    fn times_power52(self, x: __m512i) -> __m512i {
        self.constants.multiply(x, self.factor(self.power52))
    }
}

impl Modular for Narrow {
    type B = Harvey52;
    type L = Avx512;
    type Sum = [__m512i; 2];
    const SUM_WORDS: usize = 2;

    #[inline(always)]
    fn constants(self) -> Harvey52 {
        self.constants
    }

    #[inline(always)]
    fn modulus(self) -> Modulus {
        self.modulus
    }

    #[inline(always)]
    fn largest(self) -> u64 {
        self.largest
    }

    #[inline(always)]
    fn factor(self, factor: Factor) -> [__m512i; 2] {
        [self.lanes.splat(factor.value), self.lanes.splat(factor.quotient >> 12)]
    }

    #[inline(always)]
    fn sum_of(self, x: __m512i) -> Self::Sum {
        [x, self.lanes.splat(0)]
    }

    #[inline(always)]
    fn terms(self) -> usize {
        self.terms
    }

    #[inline(always)]
    fn accumulate(self, [low, high]: Self::Sum, x: __m512i, y: __m512i) -> Self::Sum {
        [self.ifma.madd_low(low, x, y), self.ifma.madd_high(high, x, y)]
    }

    #[inline(always)]
    fn fold(self, sum: Self::Sum) -> Self::Sum {
        let [low, high] = self.carry(sum);
        [self.lanes.add(low, self.times_power52(high)), self.lanes.splat(0)]
    }

    // Barrett for the lower half and Shoup for the upper one, their quotients added up: the rest lies in [0, 4q), and
    // whatever is above bit 52 on the way is cleared once.
    #[inline(always)]
    fn reduce(self, [low, high]: Self::Sum) -> __m512i {
        let high = self.lanes.add(high, self.lanes.shr::<52>(low));
        let [power52, quotient] = self.factor(self.power52);
        let estimate = self.ifma.madd_high(self.lanes.splat(0), low, self.lanes.splat(self.barrett));
        let estimate = self.ifma.madd_high(estimate, high, quotient);
        let sum = self.ifma.madd_low(low, high, power52);
        let minus_q = self.lanes.splat((1 << 52) - self.modulus.value());
        let rest = self.ifma.madd_low(sum, estimate, minus_q);
        self.constants.canonical(self.lanes.and(rest, self.lanes.splat((1 << 52) - 1)))
    }

    // Barrett with the product shifted right by k - 1, which its upper half is if the factors are shifted left. The
    // estimated quotient is less than 2.5 too small: one for the bits shifted out, one half for the rounding of the
    // constant, one for its own.
    #[inline(always)]
    fn multiply(self, x: __m512i, y: __m512i) -> __m512i {
        let zero = self.lanes.splat(0);
        let shifted = self.ifma.shl_by(x, self.lanes.splat(self.shift));
        let upper = self.ifma.madd_high(zero, shifted, self.lanes.add(y, y));
        let estimate = self.ifma.madd_high(zero, upper, self.lanes.splat(self.product_barrett));
        let product = self.ifma.madd_low(zero, x, y);
        let difference =
            self.ifma.madd_low(product, estimate, self.lanes.splat((1 << 52) - self.modulus.value()));
        self.constants.canonical(self.lanes.and(difference, self.lanes.splat((1 << 52) - 1)))
    }

    #[inline(always)]
    unsafe fn load_sum(self, from: *const u64) -> Self::Sum {
        // SAFETY: the caller's promise.
        unsafe { [self.lanes.load(from), self.lanes.load(from.add(8))] }
    }

    #[inline(always)]
    unsafe fn store_sum(self, to: *mut u64, [low, high]: Self::Sum) {
        // SAFETY: the caller's promise.
        unsafe {
            self.lanes.store(to, low);
            self.lanes.store(to.add(8), high);
        }
    }
}

/// Any q < 2^60. Factors are split into 30-bit halves; a sum is `high 2^60 + middle 2^30 + low`, where a term adds less
/// than 2^60 to `high` and `low` and less than 2^61 to `middle`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wide<L> {
    constants: Shoup64<L>,
    lanes: L,
    modulus: Modulus,
    /// `2^60 mod q`, `1` and `2^64 mod q`, each with its Shoup quotient.
    power60: Factor,
    one: Factor,
    power64: Factor,
}

impl<L: Lanes> Wide<L> {
    const HALF: u64 = (1 << 30) - 1;

    /// For any modulus.
    pub(crate) fn new(lanes: L, modulus: Modulus) -> Self {
        let factor = |value| Factor::new(modulus, value);
        Self {
            constants: Shoup64::new(lanes, modulus),
            lanes,
            modulus,
            power60: factor(modulus.reduce(1 << 60)),
            one: factor(1),
            power64: factor(modulus.reduce(1 << 64)),
        }
    }

    #[inline(always)]
    fn times(self, x: L::V, factor: Factor) -> L::V {
        self.constants.multiply(x, self.factor(factor))
    }

    /// The sum with carries moved up: `low` and `middle` below 2^30.
    #[inline(always)]
    fn carry(self, [low, middle, high]: [L::V; 3]) -> [L::V; 3] {
        let mask = self.lanes.splat(Self::HALF);
        let middle = self.lanes.add(middle, self.lanes.shr::<30>(low));
        let high = self.lanes.add(high, self.lanes.shr::<30>(middle));
        [self.lanes.and(low, mask), self.lanes.and(middle, mask), high]
    }

    /// The canonical residue of `high 2^64 + low`, any words.
    #[inline(always)]
    pub(crate) fn reduce_words(self, high: L::V, low: L::V) -> L::V {
        self.reduce_products(self.times(high, self.power64), self.times(low, self.one))
    }

    /// The canonical residue of the sum of two lazy products, each below 4q.
    #[inline(always)]
    fn reduce_products(self, x: L::V, y: L::V) -> L::V {
        let bound = self.lanes.splat(4 * self.modulus.value());
        self.constants.canonical_product(self.lanes.reduce_once(self.lanes.add(x, y), bound))
    }
}

impl<L: Lanes> Modular for Wide<L> {
    type B = Shoup64<L>;
    type L = L;
    type Sum = [L::V; 3];
    const SUM_WORDS: usize = 3;

    #[inline(always)]
    fn constants(self) -> Shoup64<L> {
        self.constants
    }

    #[inline(always)]
    fn modulus(self) -> Modulus {
        self.modulus
    }

    #[inline(always)]
    fn factor(self, factor: Factor) -> [L::V; 2] {
        [self.lanes.splat(factor.value), self.lanes.splat(factor.quotient)]
    }

    #[inline(always)]
    fn sum_of(self, x: L::V) -> Self::Sum {
        let mask = self.lanes.splat(Self::HALF);
        [self.lanes.and(x, mask), self.lanes.shr::<30>(x), self.lanes.splat(0)]
    }

    #[inline(always)]
    fn terms(self) -> usize {
        // Seven times 2^61, and what a new sum holds and carries, stay below 2^64.
        7
    }

    #[inline(always)]
    fn accumulate(self, [low, middle, high]: Self::Sum, x: L::V, y: L::V) -> Self::Sum {
        let lanes = self.lanes;
        let mask = lanes.splat(Self::HALF);
        let (x0, x1) = (lanes.and(x, mask), lanes.shr::<30>(x));
        let (y0, y1) = (lanes.and(y, mask), lanes.shr::<30>(y));
        let cross = lanes.add(lanes.mul_halves(x0, y1), lanes.mul_halves(x1, y0));
        [
            lanes.add(low, lanes.mul_halves(x0, y0)),
            lanes.add(middle, cross),
            lanes.add(high, lanes.mul_halves(x1, y1)),
        ]
    }

    #[inline(always)]
    fn fold(self, sum: Self::Sum) -> Self::Sum {
        let [low, middle, high] = self.carry(sum);
        let [t0, t1, t2] = self.sum_of(self.times(high, self.power60));
        [self.lanes.add(low, t0), self.lanes.add(middle, t1), t2]
    }

    #[inline(always)]
    fn reduce(self, sum: Self::Sum) -> L::V {
        let [low, middle, high] = self.carry(sum);
        let low = self.lanes.add(self.lanes.shl::<30>(middle), low);
        self.reduce_products(self.times(high, self.power60), self.times(low, self.one))
    }

    #[inline(always)]
    unsafe fn load_sum(self, from: *const u64) -> Self::Sum {
        // SAFETY: the caller's promise.
        unsafe { [0, 1, 2].map(|i| self.lanes.load(from.add(i * L::WIDTH))) }
    }

    #[inline(always)]
    unsafe fn store_sum(self, to: *mut u64, sum: Self::Sum) {
        for (i, part) in sum.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { self.lanes.store(to.add(i * L::WIDTH), part) };
        }
    }
}
