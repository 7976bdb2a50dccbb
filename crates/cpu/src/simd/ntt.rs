//! Forward and inverse negacyclic transforms in standard order.
//!
//! A forward transform of 2^k words is a few *passes* of up to [`PASS`] levels over columns of vectors, and a *tail* over
//! blocks of consecutive words: more such levels, and those whose operands share a vector. Passes whose groups exceed
//! [`BLOCK`] words go over the whole row; the rest is done block by block, in the first-level cache. An inverse
//! transform is the same backwards. Factors are stored in the order in which the passes meet them, those inside vectors
//! only once for both directions and without repetition: the tables of many limbs compete for the caches with the data.
//!
//! A transform waits for multiplications and hardly for memory. One whose values go into products next to it can do two
//! things for them ([`Purpose`]): leave out the last correction, and ask for their operands ahead of time.

use arras_rns::{Modulus, Ring};

use super::butterfly::{Bias, Butterflies, FactorWords, V};
use super::lanes::Lanes;
use crate::memory::Buffer;

/// Levels of a pass, at most.
const PASS: u32 = 3;
/// Levels inside vectors, at most.
const MOST_LEVELS: usize = 3;
/// Words that stay in the first-level cache together with their factors.
const BLOCK: usize = 1 << 11;

/// What the values of a transform are for.
pub(crate) trait Purpose {
    /// Whether they have to be canonical, also where products take them as they come.
    const CANONICAL: bool;

    /// Is called again and again, with the number of vectors that have just been read: those of every pass, and those of the
    /// tail twice, because it has about twice the levels.
    fn after<L: Lanes>(&mut self, lanes: L, vectors: usize);
}

/// Nothing in particular.
pub(crate) struct Anything;

impl Purpose for Anything {
    const CANONICAL: bool = true;

    #[inline(always)]
    fn after<L: Lanes>(&mut self, _: L, _: usize) {}
}

/// A product whose operands are asked for, cache line by cache line, while the transform computes.
pub(crate) struct Product {
    next: *const u64,
    /// Lines to be asked for now, and for each vector, in units of 2^-16.
    due: usize,
    rate: usize,
}

impl Product {
    const UNIT: u32 = 16;

    /// With operands that are asked for within so many vectors.
    fn new(operands: &[u64], vectors: usize) -> Self {
        let lines = operands.len() / 8;
        Self { next: operands.as_ptr(), due: 0, rate: (lines << Self::UNIT).div_ceil(vectors.max(1)) }
    }
}

impl Purpose for Product {
    const CANONICAL: bool = false;

    #[inline(always)]
    fn after<L: Lanes>(&mut self, lanes: L, vectors: usize) {
        self.due += self.rate * vectors;
        while self.due >= 1 << Self::UNIT {
            self.due -= 1 << Self::UNIT;
            lanes.prefetch_outer(self.next);
            self.next = self.next.wrapping_add(8);
        }
    }
}

/// One pass over columns, or the columns of the tail.
#[derive(Clone, Copy, Debug)]
struct Pass {
    /// log2 of the number of groups, which is the number of levels before it.
    before: u32,
    /// Number of levels.
    levels: u32,
    /// Where its factors begin in [`Factors::scalars`].
    factors: usize,
}

impl Pass {
    /// Words of factors per group.
    fn group_words<B: Butterflies>(self) -> usize {
        ((1 << self.levels) - 1) * B::FACTOR_WORDS
    }
}

/// Everything a transform of one limb needs.
#[derive(Debug)]
pub(crate) struct Transform<B> {
    arithmetic: B,
    degree: usize,
    /// Passes in forward order, without the tail.
    passes: Vec<Pass>,
    /// How many of them go over the whole row before blocks are taken one by one.
    outer: usize,
    tail: Pass,
    /// Factors of passes and of the columns of the tail: pass by pass, group by group, level by level.
    forward: Vec<u64>,
    /// The same of the inverse transform.
    inverse: Vec<u64>,
    /// For each level inside pairs of vectors, from the widest, pair by pair.
    ///
    /// The inverse transform takes them as well: the inverse of factor i of m of a level is minus factor m - 1 - i, because
    /// their exponents add up to N. So it takes the words of each pair, and the pairs, in reverse order, and exchanges the
    /// operands of the difference.
    vectors: Vec<Buffer>,
    /// `1/N`.
    degree_inverse: Vec<u64>,
}

impl<B: Butterflies> Transform<B> {
    /// The smallest degree: one pair of vectors.
    pub(crate) const MIN_DEGREE: usize = 2 * B::L::WIDTH;

    /// Tables for `limb` of a ring of degree at least `MIN_DEGREE`; `None` if there is not enough memory.
    pub(crate) fn new(arithmetic: B, ring: &Ring, limb: usize) -> Option<Self> {
        let columns = ring.log_degree() - B::L::LEVELS as u32;
        let in_tail = columns.min(PASS);
        let (mut passes, mut before, mut factors) = (Vec::new(), 0, 0);
        let mut next = |levels| {
            let pass = Pass { before, levels, factors };
            before += levels;
            factors += pass.group_words::<B>() << pass.before;
            pass
        };
        let mut rest = columns - in_tail;
        while rest > 0 {
            // As few passes as possible, the larger ones first.
            let levels = rest.div_ceil(rest.div_ceil(PASS));
            passes.push(next(levels));
            rest -= levels;
        }
        let tail = next(in_tail);
        let outer = passes.iter().filter(|pass| ring.degree() >> pass.before > BLOCK).count();

        let q = ring.modulus(limb);
        let scaled = |value| q.mul(value, q.inverse(ring.degree() as u64));
        let mut inverse = ring.inverse_twiddles(limb);
        // The factor 1/N: the last level multiplies half of its results by a root anyway.
        inverse[1] = scaled(inverse[1]);
        let degree_inverse = B::factor_words(q, scaled(1))[..B::FACTOR_WORDS].to_vec();
        let layout = Layout { arithmetic, q, passes: &passes, tail };
        let forward = ring.twiddles(limb);
        Some(Self {
            vectors: layout.vectors(&forward)?,
            forward: layout.scalars(&forward),
            inverse: layout.scalars(&inverse),
            arithmetic,
            degree: ring.degree(),
            passes,
            outer,
            tail,
            degree_inverse,
        })
    }

    /// The first block of `BLOCK`-sized work: how many blocks there are, and the words of each.
    fn blocks(&self) -> (usize, usize) {
        let before = self.passes.get(self.outer).map_or(self.tail.before, |pass| pass.before);
        (1 << before, self.degree >> before)
    }

    /// Forward, in place.
    ///
    /// # Panics
    /// If the row has the wrong length.
    #[inline(always)]
    pub(crate) fn forward(&self, row: &mut [u64]) {
        self.forward_for(row, Anything);
    }

    /// Forward, in place, to what products of this limb take: canonical values, or with [`Butterflies::LOOSE`] those
    /// between levels. Asks for the lines of `operands` meanwhile.
    ///
    /// # Panics
    /// If the row has the wrong length.
    #[inline(always)]
    pub(crate) fn forward_for_product(&self, row: &mut [u64], operands: &[u64]) {
        self.forward_for(row, Product::new(operands, self.visits()));
    }

    /// How many vectors a [`Purpose`] hears of.
    fn visits(&self) -> usize {
        (self.passes.len() + 2) * (self.degree / B::L::WIDTH)
    }

    #[inline(always)]
    fn forward_for<P: Purpose>(&self, row: &mut [u64], mut purpose: P) {
        assert_eq!(row.len(), self.degree);
        let data = row.as_mut_ptr();
        let (outer, inner) = self.passes.split_at(self.outer);
        let (blocks, words) = self.blocks();
        // SAFETY: the row has `degree` words, which the groups of every pass and the blocks of the tail divide exactly;
        // the tables were laid out for the same passes.
        unsafe {
            for pass in outer {
                self.forward_pass(*pass, data, 0, 1 << pass.before, &mut purpose);
            }
            for block in 0..blocks {
                for pass in inner {
                    let groups = (1 << pass.before) / blocks;
                    self.forward_pass(*pass, data, block * groups, groups, &mut purpose);
                }
                self.forward_tail(data, block * words, words, &mut purpose);
            }
        }
    }

    /// Inverse of `from` with the factor 1/N, or in place.
    ///
    /// # Panics
    /// If a row has the wrong length.
    #[inline(always)]
    pub(crate) fn inverse(&self, row: &mut [u64], from: Option<&[u64]>) {
        self.inverse_for(row, from, Anything);
    }

    /// Inverse in place, asking for the lines of `operands` meanwhile.
    ///
    /// # Panics
    /// If the row has the wrong length.
    #[inline(always)]
    pub(crate) fn inverse_before_product(&self, row: &mut [u64], operands: &[u64]) {
        self.inverse_for(row, None, Product::new(operands, self.visits()));
    }

    #[inline(always)]
    fn inverse_for<P: Purpose>(&self, row: &mut [u64], from: Option<&[u64]>, mut purpose: P) {
        assert!(row.len() == self.degree && from.is_none_or(|from| from.len() == self.degree));
        let data = row.as_mut_ptr();
        let from = from.map_or(data.cast_const(), <[u64]>::as_ptr);
        let (outer, inner) = self.passes.split_at(self.outer);
        let (blocks, words) = self.blocks();
        // SAFETY: as in `forward`.
        unsafe {
            for block in 0..blocks {
                self.inverse_tail(data, from, block * words, words, &mut purpose);
                for pass in inner.iter().rev() {
                    let groups = (1 << pass.before) / blocks;
                    self.inverse_pass(*pass, data, block * groups, groups, &mut purpose);
                }
            }
            for pass in outer.iter().rev() {
                self.inverse_pass(*pass, data, 0, 1 << pass.before, &mut purpose);
            }
        }
    }

    /// Groups `first .. first + count` of a pass.
    ///
    /// # Safety
    /// `data` points to `degree` words; the pass has these groups, and its columns are at least a vector wide.
    #[inline(always)]
    unsafe fn forward_pass<P: Purpose>(
        &self,
        pass: Pass,
        data: *mut u64,
        first: usize,
        count: usize,
        purpose: &mut P,
    ) {
        let length = self.degree >> pass.before;
        let stride = length >> pass.levels;
        for group in first..first + count {
            // SAFETY: the caller's promise.
            unsafe {
                let at = data.add(group * length);
                let factors = self.forward.as_ptr().add(pass.factors + group * pass.group_words::<B>());
                // The bias is for the first half of the row: of the one group of the first pass.
                match (pass.levels, pass.before) {
                    (1, 0) => columns::<B, P, 2, true, true>(self, at, stride, factors, purpose),
                    (2, 0) => columns::<B, P, 4, true, true>(self, at, stride, factors, purpose),
                    (_, 0) => columns::<B, P, 8, true, true>(self, at, stride, factors, purpose),
                    (1, _) => columns::<B, P, 2, true, false>(self, at, stride, factors, purpose),
                    (2, _) => columns::<B, P, 4, true, false>(self, at, stride, factors, purpose),
                    (_, _) => columns::<B, P, 8, true, false>(self, at, stride, factors, purpose),
                }
            }
        }
    }

    /// Like [`forward_pass`](Self::forward_pass), backwards; the first pass comes last and yields canonical values.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn inverse_pass<P: Purpose>(
        &self,
        pass: Pass,
        data: *mut u64,
        first: usize,
        count: usize,
        purpose: &mut P,
    ) {
        let length = self.degree >> pass.before;
        let stride = length >> pass.levels;
        for group in first..first + count {
            // SAFETY: the caller's promise.
            unsafe {
                let at = data.add(group * length);
                let factors = self.inverse.as_ptr().add(pass.factors + group * pass.group_words::<B>());
                match (pass.levels, pass.before) {
                    (1, 0) => columns::<B, P, 2, false, true>(self, at, stride, factors, purpose),
                    (2, 0) => columns::<B, P, 4, false, true>(self, at, stride, factors, purpose),
                    (_, 0) => columns::<B, P, 8, false, true>(self, at, stride, factors, purpose),
                    (1, _) => columns::<B, P, 2, false, false>(self, at, stride, factors, purpose),
                    (2, _) => columns::<B, P, 4, false, false>(self, at, stride, factors, purpose),
                    (_, _) => columns::<B, P, 8, false, false>(self, at, stride, factors, purpose),
                }
            }
        }
    }

    /// The tail over `words` words from `start` on.
    ///
    /// # Safety
    /// `data` points to `degree` words, of which these are whole blocks of the tail.
    #[inline(always)]
    unsafe fn forward_tail<P: Purpose>(&self, data: *mut u64, start: usize, words: usize, purpose: &mut P) {
        // SAFETY: the caller's promise.
        unsafe {
            match (self.tail.levels, self.tail.before) {
                (1, _) => self.forward_tail_of::<P, 2>(data, start, words, purpose),
                (2, _) => self.forward_tail_of::<P, 4>(data, start, words, purpose),
                (_, _) => self.forward_tail_of::<P, 8>(data, start, words, purpose),
            }
        }
    }

    /// The tail of an inverse transform, which reads its input.
    ///
    /// # Safety
    /// As for [`forward_tail`](Self::forward_tail); `from` points to as many words.
    #[inline(always)]
    unsafe fn inverse_tail<P: Purpose>(
        &self,
        data: *mut u64,
        from: *const u64,
        start: usize,
        words: usize,
        purpose: &mut P,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match (self.tail.levels, self.tail.before) {
                (1, _) => self.inverse_tail_of::<P, 2>(data, from, start, words, purpose),
                (2, _) => self.inverse_tail_of::<P, 4>(data, from, start, words, purpose),
                (_, _) => self.inverse_tail_of::<P, 8>(data, from, start, words, purpose),
            }
        }
    }

    #[inline(always)]
    unsafe fn forward_tail_of<P: Purpose, const R: usize>(
        &self,
        data: *mut u64,
        start: usize,
        words: usize,
        purpose: &mut P,
    ) {
        let block = R * B::L::WIDTH;
        let (mut at, end) = (start / block, (start + words) / block);
        let factors = self.vector_factors();
        // SAFETY: the caller's promise.
        unsafe {
            while at + 2 <= end {
                self.forward_tail_blocks::<P, R, 2>(data, at, factors);
                purpose.after(self.arithmetic.lanes(), 4 * R);
                at += 2;
            }
            if at < end {
                self.forward_tail_blocks::<P, R, 1>(data, at, factors);
                purpose.after(self.arithmetic.lanes(), 2 * R);
            }
        }
    }

    /// K blocks of R vectors from number `block` on. Two at a time, because each level of one waits for the level before.
    #[inline(always)]
    unsafe fn forward_tail_blocks<P: Purpose, const R: usize, const K: usize>(
        &self,
        data: *mut u64,
        block: usize,
        factors: [*const u64; MOST_LEVELS],
    ) {
        let (b, lanes, width) = (self.arithmetic, self.arithmetic.lanes(), B::L::WIDTH);
        let first = self.tail.before == 0;
        // SAFETY: the caller's promise; there are factors for every block.
        unsafe {
            let at = data.add(block * R * width);
            let scalars = self.forward.as_ptr();
            let scalars = scalars.add(self.tail.factors + block * self.tail.group_words::<B>());
            let mut r = [[lanes.splat(0); R]; K];
            for k in 0..K {
                for i in 0..R {
                    r[k][i] = lanes.load(at.add((k * R + i) * width));
                    if first && i < R / 2 {
                        r[k][i] = b.bias(r[k][i]);
                    }
                }
            }
            forward_network::<B, R, K, false>(
                b,
                &mut r,
                Splats::<K> { from: scalars, words: self.tail.group_words::<B>() },
            );
            for level in 0..B::L::LEVELS {
                let step = Self::level_words(level);
                let factors = factors[level].add(block * R / 2 * step);
                for pair in 0..K * R / 2 {
                    let factor = b.load_factors(level, true, factors.add(pair * step));
                    let r = r.as_flattened_mut();
                    let (x, y) = lanes.descend(level, r[2 * pair], r[2 * pair + 1]);
                    let canonical = P::CANONICAL || !B::LOOSE;
                    (r[2 * pair], r[2 * pair + 1]) = if canonical && level + 1 == B::L::LEVELS {
                        b.forward_last(log2(R) + level, x, y, factor)
                    } else {
                        b.forward(log2(R) + level, x, y, factor)
                    };
                }
                lanes.fence(r.as_flattened_mut());
            }
            let r = r.as_flattened();
            for pair in 0..K * R / 2 {
                let (x, y) = lanes.leave(r[2 * pair], r[2 * pair + 1]);
                lanes.store(at.add(2 * pair * width), x);
                lanes.store(at.add((2 * pair + 1) * width), y);
            }
        }
    }

    #[inline(always)]
    unsafe fn inverse_tail_of<P: Purpose, const R: usize>(
        &self,
        data: *mut u64,
        from: *const u64,
        start: usize,
        words: usize,
        purpose: &mut P,
    ) {
        let block = R * B::L::WIDTH;
        let (mut at, end) = (start / block, (start + words) / block);
        let factors = self.vector_factors();
        // SAFETY: the caller's promise.
        unsafe {
            while at + 2 <= end {
                self.inverse_tail_blocks::<R, 2>(data, from, at, factors);
                purpose.after(self.arithmetic.lanes(), 4 * R);
                at += 2;
            }
            if at < end {
                self.inverse_tail_blocks::<R, 1>(data, from, at, factors);
                purpose.after(self.arithmetic.lanes(), 2 * R);
            }
        }
    }

    /// As [`forward_tail_blocks`](Self::forward_tail_blocks), backwards.
    #[inline(always)]
    unsafe fn inverse_tail_blocks<const R: usize, const K: usize>(
        &self,
        data: *mut u64,
        from: *const u64,
        block: usize,
        factors: [*const u64; MOST_LEVELS],
    ) {
        let (b, lanes, width) = (self.arithmetic, self.arithmetic.lanes(), B::L::WIDTH);
        let last = self.tail.before == 0;
        // SAFETY: the caller's promise; there are factors for every block.
        unsafe {
            let (at, from) = (data.add(block * R * width), from.add(block * R * width));
            let scalars = self.inverse.as_ptr();
            let scalars = scalars.add(self.tail.factors + block * self.tail.group_words::<B>());
            let mut r = [[lanes.splat(0); R]; K];
            for pair in 0..K * R / 2 {
                let r = r.as_flattened_mut();
                let x = lanes.load(from.add(2 * pair * width));
                let y = lanes.load(from.add((2 * pair + 1) * width));
                (r[2 * pair], r[2 * pair + 1]) = lanes.enter_reversed(x, y);
            }
            for level in 0..B::L::LEVELS {
                let from_widest = B::L::LEVELS - 1 - level;
                let step = Self::level_words(from_widest);
                let factors =
                    factors[from_widest].add((self.degree / (2 * width) - 1 - block * R / 2) * step);
                for pair in 0..K * R / 2 {
                    let factor = b.load_factors(from_widest, false, factors.sub(pair * step));
                    let r = r.as_flattened_mut();
                    // In reverse order the first operand is the one to be subtracted, and the result of the sum is the second.
                    // It is below 8q 2^level, being a sum of 2^level canonical words or products.
                    let bias = Bias { difference: 8 << level, ..Bias::default() };
                    let (mut sum, difference) = b.inverse(bias, r[2 * pair], r[2 * pair + 1], factor);
                    if from_widest == 0 {
                        sum = b.settle(sum);
                    }
                    (r[2 * pair], r[2 * pair + 1]) = lanes.ascend(level, difference, sum);
                }
                lanes.fence(r.as_flattened_mut());
            }
            inverse_network(b, &mut r, Splats::<K> { from: scalars, words: self.tail.group_words::<B>() });
            for k in 0..K {
                if last {
                    self.finish_inverse(&mut r[k]);
                }
                for i in 0..R {
                    lanes.store(at.add((k * R + i) * width), r[k][i]);
                }
            }
        }
    }

    /// Words of the factors of a level inside a pair of vectors.
    const fn level_words(level: usize) -> usize {
        B::FACTOR_WORDS * if B::SPREAD { 2 << level } else { B::L::WIDTH }
    }

    /// The factors of each level inside vectors.
    #[inline(always)]
    fn vector_factors(&self) -> [*const u64; MOST_LEVELS] {
        let mut factors = [core::ptr::null(); MOST_LEVELS];
        for (factors, level) in factors.iter_mut().zip(&self.vectors) {
            *factors = level.as_slice().as_ptr();
        }
        factors
    }

    /// What is left to do after the last level of an inverse transform: 1/N for the sums, canonical values for all.
    #[inline(always)]
    fn finish_inverse<const R: usize>(&self, r: &mut [V<B>; R]) {
        // SAFETY: `degree_inverse` holds the words of one factor.
        let scale = unsafe { self.arithmetic.splat_factor(self.degree_inverse.as_ptr()) };
        for i in 0..R {
            if i < R / 2 {
                r[i] = self.arithmetic.multiply(r[i], scale);
            }
            r[i] = self.arithmetic.canonical_product(r[i]);
        }
    }
}

/// One group of a pass over columns: R vectors, `stride` words apart, at a time. `OUTER` marks the pass that reads the
/// input of a forward transform or writes the output of an inverse one.
///
/// # Safety
/// `data` points to `R * stride` words, of which a vector divides `stride`; `factors` to the R - 1 factors of the group.
#[inline(always)]
unsafe fn columns<B: Butterflies, P: Purpose, const R: usize, const FORWARD: bool, const OUTER: bool>(
    transform: &Transform<B>,
    data: *mut u64,
    stride: usize,
    factors: *const u64,
    purpose: &mut P,
) {
    // SAFETY: the caller's promise.
    let factors = unsafe { Held::<B, R>::new(transform.arithmetic, factors) };
    let width = B::L::WIDTH;
    let mut column = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while B::PAIRED_COLUMNS && column + 2 * width <= stride {
            columns_at::<B, R, 2, FORWARD, OUTER>(transform, data.add(column), stride, factors);
            purpose.after(transform.arithmetic.lanes(), 2 * R);
            column += 2 * width;
        }
        while column < stride {
            columns_at::<B, R, 1, FORWARD, OUTER>(transform, data.add(column), stride, factors);
            purpose.after(transform.arithmetic.lanes(), R);
            column += width;
        }
    }
}

/// K neighbouring columns.
#[inline(always)]
unsafe fn columns_at<
    B: Butterflies,
    const R: usize,
    const K: usize,
    const FORWARD: bool,
    const OUTER: bool,
>(
    transform: &Transform<B>,
    at: *mut u64,
    stride: usize,
    factors: Held<B, R>,
) {
    let (b, lanes, width) = (transform.arithmetic, transform.arithmetic.lanes(), B::L::WIDTH);
    // SAFETY: the caller's promise.
    unsafe {
        let mut r = [[lanes.splat(0); R]; K];
        for i in 0..R {
            for k in 0..K {
                r[k][i] = lanes.load(at.add(i * stride + k * width));
                if FORWARD && OUTER && i < R / 2 {
                    r[k][i] = b.bias(r[k][i]);
                }
            }
        }
        if FORWARD {
            forward_network::<B, R, K, OUTER>(b, &mut r, factors);
        } else {
            inverse_network(b, &mut r, factors);
            if OUTER {
                for r in &mut r {
                    transform.finish_inverse(r);
                }
            }
        }
        for i in 0..R {
            for k in 0..K {
                lanes.store(at.add(i * stride + k * width), r[k][i]);
            }
        }
    }
}

/// The factors of one group as a binary heap: node 1 for its first level, nodes 2 and 3 for the halves, and so on.
trait Heap<B: Butterflies, const K: usize>: Copy {
    /// The factor of a node in the k-th of K heaps.
    fn node(self, b: B, k: usize, node: usize) -> B::Factor;
}

/// Factors of K consecutive blocks, read where they are used, once.
#[derive(Clone, Copy)]
struct Splats<const K: usize> {
    from: *const u64,
    /// Words of factors per block.
    words: usize,
}

impl<B: Butterflies, const K: usize> Heap<B, K> for Splats<K> {
    #[inline(always)]
    fn node(self, b: B, k: usize, node: usize) -> B::Factor {
        // SAFETY: made only by the tails, from a pointer to as many factors as the K networks have nodes.
        unsafe { b.splat_factor(self.from.add(k * self.words + (node - 1) * B::FACTOR_WORDS)) }
    }
}

/// Factors kept in registers for a whole group.
struct Held<B: Butterflies, const R: usize>([B::Factor; R]);

impl<B: Butterflies, const R: usize> Held<B, R> {
    /// # Safety
    /// R - 1 factors can be read.
    #[inline(always)]
    unsafe fn new(b: B, from: *const u64) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let mut factors = [b.splat_factor(from); R];
            for node in 2..R {
                factors[node] = b.splat_factor(from.add((node - 1) * B::FACTOR_WORDS));
            }
            Self(factors)
        }
    }
}

impl<B: Butterflies, const R: usize> Clone for Held<B, R> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Butterflies, const R: usize> Copy for Held<B, R> {}

impl<B: Butterflies, const R: usize, const K: usize> Heap<B, K> for Held<B, R> {
    #[inline(always)]
    fn node(self, _: B, _: usize, node: usize) -> B::Factor {
        self.0[node]
    }
}

const fn log2(r: usize) -> usize {
    r.trailing_zeros() as usize
}

/// All levels of a forward pass on K times R = 2, 4 or 8 vectors. Written out, because an array that is indexed by a loop variable
/// would live in memory. `FIRST` says that their level 0 is that of the transform.
#[inline(always)]
fn forward_network<B: Butterflies, const R: usize, const K: usize, const FIRST: bool>(
    b: B,
    r: &mut [[V<B>; R]; K],
    f: impl Heap<B, K>,
) {
    macro_rules! level {
        ($level:literal: $(($x:literal, $y:literal, $node:literal))*) => {$(
            for (k, r) in r.iter_mut().enumerate() {
                let (x, y, factor) = (r[$x], r[$y], f.node(b, k, $node));
                (r[$x], r[$y]) = if FIRST && $level == 0 {
                    b.forward_first(x, y, factor)
                } else {
                    b.forward($level, x, y, factor)
                };
            }
        )* b.lanes().fence(r.as_flattened_mut());};
    }
    match R {
        2 => {
            level!(0: (0, 1, 1));
        }
        4 => {
            level!(0: (0, 2, 1) (1, 3, 1));
            level!(1: (0, 1, 2) (2, 3, 3));
        }
        _ => {
            level!(0: (0, 4, 1) (1, 5, 1) (2, 6, 1) (3, 7, 1));
            level!(1: (0, 2, 2) (1, 3, 2) (4, 6, 3) (5, 7, 3));
            level!(2: (0, 1, 4) (2, 3, 5) (4, 5, 6) (6, 7, 7));
        }
    }
}

/// All levels of an inverse pass on K times R = 2, 4 or 8 vectors below 8q; the sum of all is settled.
///
/// Behind each butterfly the multiples of q that are added to its first operand and to its product ([`Bias`]). With eight vectors,
/// sums of two, four and eight inputs are below 16q, 32q and 64q. What is subtracted on the way to the sum of all: at most
/// 8q at level 0, 24q at level 1 and 64q at level 2, biases included; on the way to the sum of products at most 2q and 6q.
#[inline(always)]
fn inverse_network<B: Butterflies, const R: usize, const K: usize>(
    b: B,
    r: &mut [[V<B>; R]; K],
    f: impl Heap<B, K>,
) {
    macro_rules! level {
        ($(($x:literal, $y:literal, $node:literal) + ($first:literal, $product:literal);)*) => {$(
            for (k, r) in r.iter_mut().enumerate() {
                let bias = Bias { first: $first, difference: 0, product: $product };
                (r[$x], r[$y]) = b.inverse(bias, r[$x], r[$y], f.node(b, k, $node));
            }
        )* b.lanes().fence(r.as_flattened_mut());};
    }
    match R {
        2 => {
            level!((0, 1, 1) + (8, 0););
        }
        4 => {
            level!((0, 1, 2) + (24, 2); (2, 3, 3) + (8, 0););
            level!((0, 2, 1) + (0, 0); (1, 3, 1) + (0, 0););
        }
        _ => {
            level!((0, 1, 4) + (56, 6); (2, 3, 5) + (8, 0); (4, 5, 6) + (24, 2); (6, 7, 7) + (8, 0););
            level!((0, 2, 2) + (0, 2); (1, 3, 2) + (0, 2); (4, 6, 3) + (0, 0); (5, 7, 3) + (0, 0););
            level!((0, 4, 1) + (0, 0); (1, 5, 1) + (0, 0); (2, 6, 1) + (0, 0); (3, 7, 1) + (0, 0););
        }
    }
    for r in r {
        if R == 8 {
            r[0] = b.lower(r[0], 56 + 8 + 24 + 8);
            r[1] = b.lower(r[1], 6 + 2);
        }
        r[0] = b.settle(r[0]);
    }
}

/// How factors are laid out.
struct Layout<'a, B> {
    arithmetic: B,
    q: Modulus,
    passes: &'a [Pass],
    tail: Pass,
}

impl<B: Butterflies> Layout<'_, B> {
    /// For each level inside a pair of vectors, from the widest: which element of the pair each lane of the first operand
    /// holds. The lanes tell themselves, by moving indices.
    fn lanes_of_levels(&self) -> Vec<Vec<u64>> {
        let (lanes, width) = (self.arithmetic.lanes(), B::L::WIDTH);
        let indices: Vec<u64> = (0..2 * width as u64).collect();
        // SAFETY: `indices` holds two vectors.
        let (mut x, mut y) = unsafe { (lanes.load(indices.as_ptr()), lanes.load(indices[width..].as_ptr())) };
        let order = |level| {
            (x, y) = lanes.descend(level, x, y);
            let mut order = vec![0; width];
            // SAFETY: `order` is one vector long.
            unsafe { lanes.store(order.as_mut_ptr(), x) };
            order
        };
        (0..B::L::LEVELS).map(order).collect()
    }

    fn words(&self, value: u64) -> FactorWords {
        B::factor_words(self.q, value)
    }

    /// Lays out factors of columns, from powers in the order of [`Ring::twiddles`].
    fn scalars(&self, powers: &[u64]) -> Vec<u64> {
        let mut scalars = Vec::new();
        for pass in self.passes.iter().chain([&self.tail]) {
            for group in 0..1usize << pass.before {
                for level in 0..pass.levels {
                    for j in 0..1usize << level {
                        let index = (1 << (pass.before + level)) + (group << level) + j;
                        scalars.extend_from_slice(&self.words(powers[index])[..B::FACTOR_WORDS]);
                    }
                }
            }
        }
        scalars
    }

    /// Lays out factors inside vectors, level by level.
    fn vectors(&self, powers: &[u64]) -> Option<Vec<Buffer>> {
        let levels = self.lanes_of_levels().into_iter().enumerate();
        levels.map(|(level, order)| self.vectors_of_level(powers, level, &order)).collect()
    }

    /// Those of one level, whose lanes hold the elements `order` of a pair.
    fn vectors_of_level(&self, powers: &[u64], level: usize, order: &[u64]) -> Option<Buffer> {
        let (degree, width, stored) =
            (powers.len(), B::L::WIDTH, Transform::<B>::level_words(level) / B::FACTOR_WORDS);
        let per_pair = B::FACTOR_WORDS * stored;
        let mut vectors = Buffer::new(degree / (2 * width) * per_pair)?;
        // Blocks of this level are `length` words long, and their factors begin at their number.
        let length = width >> level;
        for (pair, vectors) in vectors.as_mut_slice().chunks_exact_mut(per_pair).enumerate() {
            for (lane, &element) in order.iter().step_by(width / stored).enumerate() {
                let block = (pair * 2 * width + element as usize) / length;
                let factor = self.words(powers[degree / length + block]);
                for part in 0..B::FACTOR_WORDS {
                    vectors[part * stored + lane] = factor[part];
                }
            }
        }
        Some(vectors)
    }
}
