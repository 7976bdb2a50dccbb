//! The row kernels other than transforms, over any [`Modular`] arithmetic. Rows are canonical and as long as a whole
//! number of vectors, which every function asserts before it touches memory through pointers.

use core::ops::Range;

use super::butterfly::V;
use super::lanes::{Avx512, Lanes};
use super::modular::{Modular, Narrow, Wide};
use crate::tables::{Factor, Terms};

type Vector<M> = V<<M as Modular>::B>;

/// `out[i] = f(a[i])`, where no `a` stands for `out`.
#[inline(always)]
fn transform<M: Modular>(m: M, out: &mut [u64], a: Option<&[u64]>, f: impl Fn(Vector<M>) -> Vector<M>) {
    let length = out.len();
    assert!(length.is_multiple_of(M::L::WIDTH) && a.is_none_or(|a| a.len() == length));
    let to = out.as_mut_ptr();
    let a = a.map_or(to.cast_const(), <[u64]>::as_ptr);
    for i in (0..length).step_by(M::L::WIDTH) {
        // SAFETY: both have `length` words, a whole number of vectors.
        unsafe { m.lanes().store(to.add(i), f(m.lanes().load(a.add(i)))) };
    }
}

/// `out[i] = f(a[i], b[i])`, where no `a` stands for `out`.
#[inline(always)]
fn combine<M: Modular>(
    m: M,
    out: &mut [u64],
    a: Option<&[u64]>,
    b: &[u64],
    f: impl Fn(Vector<M>, Vector<M>) -> Vector<M>,
) {
    let length = out.len();
    assert!(length.is_multiple_of(M::L::WIDTH) && b.len() == length && a.is_none_or(|a| a.len() == length));
    let (to, b) = (out.as_mut_ptr(), b.as_ptr());
    let a = a.map_or(to.cast_const(), <[u64]>::as_ptr);
    for i in (0..length).step_by(M::L::WIDTH) {
        // SAFETY: all three have `length` words, a whole number of vectors.
        unsafe {
            let (x, y) = (m.lanes().load(a.add(i)), m.lanes().load(b.add(i)));
            m.lanes().store(to.add(i), f(x, y));
        }
    }
}

#[inline(always)]
pub(crate) fn add<M: Modular>(m: M, out: &mut [u64], a: Option<&[u64]>, b: &[u64]) {
    combine(m, out, a, b, |x, y| m.add(x, y));
}

#[inline(always)]
pub(crate) fn sub<M: Modular>(m: M, out: &mut [u64], a: Option<&[u64]>, b: &[u64]) {
    combine(m, out, a, b, |x, y| m.sub(x, y));
}

#[inline(always)]
pub(crate) fn negate<M: Modular>(m: M, out: &mut [u64], a: Option<&[u64]>) {
    transform(m, out, a, |x| m.sub(m.lanes().splat(0), x));
}

#[inline(always)]
pub(crate) fn multiply<M: Modular>(m: M, out: &mut [u64], a: Option<&[u64]>, b: &[u64]) {
    combine(m, out, a, b, |x, y| m.multiply(x, y));
}

/// `out = out + a b`.
#[inline(always)]
pub(crate) fn multiply_accumulate<M: Modular>(m: M, out: &mut [u64], a: &[u64], b: &[u64]) {
    let length = out.len();
    assert!(length.is_multiple_of(M::L::WIDTH) && a.len() == length && b.len() == length);
    let (to, a, b) = (out.as_mut_ptr(), a.as_ptr(), b.as_ptr());
    for i in (0..length).step_by(M::L::WIDTH) {
        // SAFETY: all three have `length` words, a whole number of vectors.
        unsafe {
            let sum = m.sum_of(m.lanes().load(to.add(i)));
            let sum = m.accumulate(sum, m.lanes().load(a.add(i)), m.lanes().load(b.add(i)));
            m.lanes().store(to.add(i), m.reduce(sum));
        }
    }
}

/// `out = a scalar + b`.
#[inline(always)]
pub(crate) fn scale_add<M: Modular>(
    m: M,
    out: &mut [u64],
    a: Option<&[u64]>,
    scalar: Factor,
    b: Option<&[u64]>,
) {
    let factor = m.factor(scalar);
    match b {
        None => transform(m, out, a, |x| m.scale(x, factor)),
        Some(b) => combine(m, out, a, b, |x, y| m.add(m.scale(x, factor), y)),
    }
}

/// `out = (a - b) scalar`, where b may hold values of a transform for products.
#[inline(always)]
pub(crate) fn sub_scale<M: Modular>(m: M, out: &mut [u64], a: Option<&[u64]>, b: &[u64], scalar: Factor) {
    let factor = m.factor(scalar);
    let largest = m.lanes().splat(m.largest());
    // No lazy product minds how large the difference is.
    combine(m, out, a, b, |x, y| m.scale(m.lanes().sub(m.lanes().add(x, largest), y), factor));
}

/// `out = sum_k left[k] right[k]`, where the left sides may be values of transforms for products.
#[inline(always)]
pub(crate) fn inner_product<M: Modular>(m: M, out: &mut [u64], left: &[&[u64]], right: Terms<'_>) {
    inner_products_of(m, [out], left, right);
}

/// `out[c] = sum_k left[k] right[k][c]` for two components, every `left[k]` read once.
#[inline(always)]
pub(crate) fn inner_products<M: Modular>(m: M, out: [&mut [u64]; 2], left: &[&[u64]], right: Terms<'_>) {
    inner_products_of(m, out, left, right);
}

#[inline(always)]
fn inner_products_of<M: Modular, const C: usize>(
    m: M,
    out: [&mut [u64]; C],
    left: &[&[u64]],
    right: Terms<'_>,
) {
    let (lanes, length, chunk) = (m.lanes(), out[0].len(), right.chunk());
    assert!(chunk.is_multiple_of(M::L::WIDTH) && out.iter().all(|out| out.len() == length));
    assert!(left.iter().all(|row| row.len() == length) && right.holds(length, left.len(), C));
    let out = out.map(<[u64]>::as_mut_ptr);
    for start in (0..length).step_by(chunk) {
        let prepared = right.chunk_at(start).as_ptr();
        for i in (0..chunk).step_by(M::L::WIDTH) {
            // SAFETY: the rows have `length` words, a whole number of chunks; a chunk of the prepared polynomials has
            // `chunk` words, a whole number of vectors, for every term and component. Hints may point anywhere.
            unsafe {
                let mut sums = [m.sum_of(lanes.splat(0)); C];
                let mut room = m.terms();
                for k in 0..left.len() {
                    if room == 0 {
                        for sum in &mut sums {
                            *sum = m.fold(*sum);
                        }
                        room = m.terms();
                    }
                    room -= 1;
                    let x = lanes.load(left.get_unchecked(k).as_ptr().add(start + i));
                    for c in 0..C {
                        let y = prepared.add(right.offset(k, c) + i);
                        lanes.prefetch(y.wrapping_add(AHEAD));
                        sums[c] = m.accumulate(sums[c], x, lanes.load(y));
                    }
                }
                for c in 0..C {
                    lanes.store(out[c].add(start + i), m.reduce(sums[c]));
                }
            }
        }
    }
}

/// How many words ahead prepared polynomials are asked for. A key is read once and comes from memory.
const AHEAD: usize = 512;

/// Vectors of a matrix product whose sums stay in the first-level cache while the inputs stream past.
const TILE: usize = 32;
/// Rows of a matrix product that share one pass over the inputs.
pub(crate) const MATRIX_ROWS: usize = 6;
/// Columns of a matrix product whose products are added up in registers before the sums go back to memory.
const COLUMNS: usize = 8;

/// `out[r] = sum_c weights[r][c] inputs[c]`, for at most [`MATRIX_ROWS`] rows. Every weight is less than q in magnitude.
#[inline(always)]
pub(crate) fn matrix_rows<M: Modular>(m: M, out: &mut [&mut [u64]], weights: &[&[i64]], inputs: &[&[u64]]) {
    macro_rules! of {
        ($($count:literal)*) => {
            match (out.len(), weights.len()) {
                $(($count, $count) => {
                    let (Some(out), Some(weights)) = (out.first_chunk_mut(), weights.first_chunk()) else { return };
                    matrix_rows_of::<M, $count>(m, out, weights, inputs);
                })*
                (rows, _) => assert_eq!(rows, 0),
            }
        };
    }
    of!(1 2 3 4 5 6);
}

#[inline(always)]
fn matrix_rows_of<M: Modular, const R: usize>(
    m: M,
    out: &mut [&mut [u64]; R],
    weights: &[&[i64]; R],
    inputs: &[&[u64]],
) {
    let (lanes, width) = (m.lanes(), M::L::WIDTH);
    let length = out[0].len();
    assert!(length.is_multiple_of(width) && out.iter().all(|out| out.len() == length));
    assert!(weights.iter().all(|weights| weights.len() == inputs.len()));
    assert!(inputs.iter().all(|input| input.len() == length));
    let out = out.each_mut().map(|row| row.as_mut_ptr());
    let columns_at_once = COLUMNS.min(m.terms());
    let mut sums = Sums([0; SUMS]);
    let sum_words = M::SUM_WORDS * width;
    for tile in (0..length).step_by(TILE * width) {
        let vectors = TILE.min((length - tile) / width);
        sums.0[..vectors * R * sum_words].fill(0);
        let mut room = m.terms();
        for first in (0..inputs.len()).step_by(columns_at_once) {
            let columns = columns_at_once.min(inputs.len() - first);
            let fold = room < columns;
            room = if fold { m.terms() - columns } else { room - columns };
            let mut factors = [[0; COLUMNS]; R];
            for r in 0..R {
                for c in 0..columns {
                    let weight = weights[r][first + c];
                    factors[r][c] = (weight + if weight < 0 { m.modulus().value() as i64 } else { 0 }) as u64;
                }
            }
            for v in 0..vectors {
                // SAFETY: R * vectors sums fit, because R <= MATRIX_ROWS, WIDTH <= 8 and SUM_WORDS <= 3; the rows have
                // `length` words, of which vector v of the tile is one.
                unsafe {
                    let at = sums.0.as_mut_ptr().add(v * R * sum_words);
                    let mut held = [m.sum_of(lanes.splat(0)); R];
                    for r in 0..R {
                        held[r] = m.load_sum(at.add(r * sum_words));
                        if fold {
                            held[r] = m.fold(held[r]);
                        }
                    }
                    for c in 0..columns {
                        let x = lanes.load(inputs.get_unchecked(first + c).as_ptr().add(tile + v * width));
                        for r in 0..R {
                            held[r] = m.accumulate(held[r], lanes.splat(factors[r][c]), x);
                        }
                    }
                    for r in 0..R {
                        m.store_sum(at.add(r * sum_words), held[r]);
                    }
                }
            }
        }
        for v in 0..vectors {
            for r in 0..R {
                // SAFETY: as above.
                unsafe {
                    let sum = m.load_sum(sums.0.as_ptr().add((v * R + r) * sum_words));
                    lanes.store(out[r].add(tile + v * width), m.reduce(sum));
                }
            }
        }
    }
}

/// Rows that [`matrix_pairs`] takes at a time.
pub(crate) const PAIR_ROWS: usize = 10;

/// [`matrix_rows`] with half the multiplications, for at most [`PAIR_ROWS`] rows (Winograd, A New Algorithm for Inner
/// Product, 1968): two products of a row are
///
/// ```text
/// w1 x1 + w2 x2 = (x1 + w2) (x2 + w1) - x1 x2 - w1 w2
/// ```
///
/// and `x1 x2` is the same for all rows. `constants` holds the sums of `w1 w2` of each row, modulo q.
#[inline(always)]
pub(crate) fn matrix_pairs(
    m: Narrow,
    out: &mut [&mut [u64]],
    weights: &[&[i64]],
    constants: &[u64],
    inputs: &[&[u64]],
) {
    macro_rules! of {
        ($($count:literal: $tile:literal,)*) => {
            match out.len() {
                $($count => {
                    let chunks = (out.first_chunk_mut(), weights.first_chunk(), constants.first_chunk());
                    let (Some(out), Some(weights), Some(constants)) = chunks else { return };
                    matrix_pairs_of::<$count, $tile>(m, out, weights, constants, inputs);
                })*
                rows => assert_eq!(rows, 0),
            }
        };
    }
    of!(1: 32, 2: 32, 3: 32, 4: 32, 5: 32, 6: 32, 7: 16, 8: 16, 9: 16, 10: 16,);
}

/// Pairs of products that a sum takes: the upper halves are below 2^50, 2^12 lower ones carry less than that.
const PAIR_TERMS: usize = 1 << 11;

/// The canonical residue of a sum of [`PAIR_TERMS`] products of factors below 2^51.
#[inline(always)]
fn reduce_pairs(m: Narrow, [low, high]: Pair) -> Vector<Narrow> {
    let lanes = m.lanes();
    let mask = lanes.splat((1 << 52) - 1);
    let high = lanes.add(high, lanes.shr::<52>(low));
    let high = m.reduce([lanes.and(high, mask), lanes.shr::<52>(high)]);
    m.reduce([lanes.and(low, mask), high])
}

type Pair = <Narrow as Modular>::Sum;

#[inline(always)]
fn matrix_pairs_of<const R: usize, const TILE: usize>(
    m: Narrow,
    out: &mut [&mut [u64]; R],
    weights: &[&[i64]; R],
    constants: &[u64; R],
    inputs: &[&[u64]],
) {
    let (lanes, q) = (m.lanes(), m.modulus().value());
    let length = out[0].len();
    assert!(length.is_multiple_of(8) && out.iter().all(|out| out.len() == length));
    assert!(weights.iter().all(|weights| weights.len() == inputs.len()));
    assert!(inputs.iter().all(|input| input.len() == length));
    let out = out.each_mut().map(|row| row.as_mut_ptr());
    let residue = |weight: i64| (weight + if weight < 0 { q as i64 } else { 0 }) as u64;
    // For each vector of the tile the sums of all rows, and that of the products of inputs.
    let mut sums = [[[lanes.splat(0); 2]; PAIR_ROWS + 1]; TILE];
    for tile in (0..length).step_by(8 * TILE) {
        let vectors = TILE.min((length - tile) / 8);
        sums[..vectors].iter_mut().for_each(|sums| sums[..R + 1].fill([lanes.splat(0); 2]));
        let mut room = PAIR_TERMS;
        for first in (0..inputs.len()).step_by(COLUMNS) {
            let columns = COLUMNS.min(inputs.len() - first);
            let mut factors = [[0; COLUMNS]; R];
            for r in 0..R {
                for c in 0..columns {
                    factors[r][c] = residue(weights[r][first + c]);
                }
            }
            let fold = room < COLUMNS / 2;
            room = if fold { PAIR_TERMS - 1 } else { room } - COLUMNS / 2;
            for (v, sums) in sums[..vectors].iter_mut().enumerate() {
                let at = tile + 8 * v;
                if fold {
                    sums[..R + 1].iter_mut().for_each(|sum| *sum = m.sum_of(reduce_pairs(m, *sum)));
                }
                let mut held: [Pair; R] = [m.sum_of(lanes.splat(0)); R];
                held.copy_from_slice(&sums[..R]);
                let mut common = sums[R];
                // SAFETY: there are `inputs.len()` rows of `length` words, of which vector v of the tile is one, and
                // hints may point anywhere.
                unsafe {
                    for c in (0..columns).step_by(2) {
                        for next in [first + columns + c, first + columns + c + 1] {
                            lanes.prefetch(
                                inputs.get(next).map_or(core::ptr::null(), |row| row.as_ptr().add(at)),
                            );
                        }
                        let x1 = lanes.load(inputs.get_unchecked(first + c).as_ptr().add(at));
                        if c + 1 == columns {
                            for r in 0..R {
                                held[r] = m.accumulate(held[r], x1, lanes.splat(factors[r][c]));
                            }
                            break;
                        }
                        let x2 = lanes.load(inputs.get_unchecked(first + c + 1).as_ptr().add(at));
                        common = m.accumulate(common, x1, x2);
                        for r in 0..R {
                            let left = lanes.add(x1, lanes.splat(factors[r][c + 1]));
                            let right = lanes.add(x2, lanes.splat(factors[r][c]));
                            held[r] = m.accumulate(held[r], left, right);
                        }
                    }
                }
                sums[..R].copy_from_slice(&held);
                sums[R] = common;
            }
        }
        for (v, sums) in sums[..vectors].iter().enumerate() {
            let common = reduce_pairs(m, sums[R]);
            for r in 0..R {
                let sum = m.sub(m.sub(reduce_pairs(m, sums[r]), common), lanes.splat(constants[r]));
                // SAFETY: the rows have `length` words, of which vector v of the tile is one.
                unsafe { lanes.store(out[r].add(tile + 8 * v), sum) };
            }
        }
    }
}

/// Words of the sums of a tile, for vectors of eight lanes and sums of three words.
const SUMS: usize = 3 * 8 * TILE * MATRIX_ROWS;

/// Unreduced sums of a tile, on a cache line.
#[repr(align(64))]
struct Sums([u64; SUMS]);

/// Step one of a base conversion: the digits `[x scale] + (q - 1) / 2 mod q` of one source limb, which are the centred
/// digits moved to `[0, q)`.
#[inline(always)]
pub(crate) fn digits<M: Modular>(m: M, out: &mut [u64], a: Option<&[u64]>, scale: Factor) {
    let half = m.lanes().splat(m.modulus().value() / 2);
    if scale.value == 1 {
        return transform(m, out, a, |x| m.add(x, half));
    }
    let factor = m.factor(scale);
    transform(m, out, a, |x| m.add(m.scale(x, factor), half));
}

/// Step two: `out[at] = start + sum_i digits[i][at] weights[i]` for one target limb and a stretch of whole vectors.
#[inline(always)]
pub(crate) fn weigh<M: Modular>(
    m: M,
    out: &mut [u64],
    at: Range<usize>,
    digits: &[&[u64]],
    weights: &[u64],
    start: u64,
) {
    let width = M::L::WIDTH;
    let out = &mut out[at.clone()];
    let length = out.len();
    assert!(length.is_multiple_of(width) && digits.len() == weights.len());
    assert!(digits.iter().all(|digit| digit.len() >= at.end));
    let to = out.as_mut_ptr();
    let mut i = 0;
    // SAFETY: `out` and the stretch of each digit have `length` words, a whole number of vectors.
    unsafe {
        while i + 4 * width <= length {
            weigh_vectors::<M, 4>(m, to.add(i), at.start + i, digits, weights, start);
            i += 4 * width;
        }
        while i < length {
            weigh_vectors::<M, 1>(m, to.add(i), at.start + i, digits, weights, start);
            i += width;
        }
    }
}

/// G vectors of [`weigh`], which share the weights.
///
/// # Safety
/// G vectors can be written at `to`, and each digit has as many from word `i` on; there are as many digits as weights.
#[inline(always)]
unsafe fn weigh_vectors<M: Modular, const G: usize>(
    m: M,
    to: *mut u64,
    i: usize,
    digits: &[&[u64]],
    weights: &[u64],
    start: u64,
) {
    let (lanes, width) = (m.lanes(), M::L::WIDTH);
    let mut sums = [m.sum_of(lanes.splat(start)); G];
    let mut room = m.terms();
    for k in 0..weights.len() {
        if room == 0 {
            for sum in &mut sums {
                *sum = m.fold(*sum);
            }
            room = m.terms();
        }
        room -= 1;
        // SAFETY: the caller's promise.
        unsafe {
            let weight = lanes.splat(*weights.get_unchecked(k));
            let digit = digits.get_unchecked(k).as_ptr().add(i);
            for g in 0..G {
                sums[g] = m.accumulate(sums[g], lanes.load(digit.add(g * width)), weight);
            }
        }
    }
    for g in 0..G {
        // SAFETY: the caller's promise.
        unsafe { lanes.store(to.add(g * width), m.reduce(sums[g])) };
    }
}

/// [`weigh`] for one digit, whose weight is 1: `out = digit + start`, both below 2^51.
#[inline(always)]
pub(crate) fn lift(m: Narrow, out: &mut [u64], digit: &[u64], start: u64) {
    let start = m.lanes().splat(start);
    transform(m, out, Some(digit), |x| m.residue(m.lanes().add(x, start)));
}

/// `row[i]` is the i-th group of 16 bytes mod q.
#[inline(always)]
pub(crate) fn reduce_bytes<L: Lanes>(m: Wide<L>, row: &mut [u64], bytes: &[u8]) {
    reduce_split(m.lanes(), row, bytes, |low, high| m.reduce_words(high, low));
}

/// The same for q < 2^50: `x = x0 + x1 2^52 + x2 2^104` with 52, 52 and 24 bits is a sum of three products. Bits of x1
/// above its own are noise that the multiplier ignores.
#[inline(always)]
pub(crate) fn reduce_bytes_narrow(m: Narrow, row: &mut [u64], bytes: &[u8]) {
    let (lanes, q) = (m.lanes(), m.modulus());
    let mask = lanes.splat((1 << 52) - 1);
    let power52 = lanes.splat(q.reduce(1 << 52));
    let power104 = lanes.splat(q.reduce(1 << 104));
    reduce_split(lanes, row, bytes, |low, high| {
        let x1 = lanes.add(lanes.shr::<52>(low), lanes.shl::<12>(high));
        let sum = m.accumulate(m.sum_of(lanes.and(low, mask)), x1, power52);
        m.reduce(m.accumulate(sum, lanes.shr::<40>(high), power104))
    });
}

/// Lower and upper halves of groups of 16 bytes, a vector of each at a time.
#[inline(always)]
fn reduce_split<L: Lanes>(lanes: L, row: &mut [u64], bytes: &[u8], reduce: impl Fn(L::V, L::V) -> L::V) {
    let length = row.len();
    assert!(length.is_multiple_of(L::WIDTH) && bytes.len() == 16 * length);
    let from = bytes.as_ptr().cast::<u64>();
    for i in (0..length).step_by(L::WIDTH) {
        // SAFETY: the row has `length` words, a whole number of vectors, the bytes are twice as many, and vectors need not
        // be aligned.
        unsafe {
            let (a, b) = (lanes.load(from.add(2 * i)), lanes.load(from.add(2 * i + L::WIDTH)));
            let (low, high) = lanes.unzip(a, b);
            lanes.store(row.as_mut_ptr().add(i), reduce(low, high));
        }
    }
}

/// `X -> X^element` on values: the value at `root^e` is the old one at `root^(e element)`.
///
/// In bit-reversed order the eight values of a vector have exponents that agree in all but their three highest bits, and
/// multiplying by an odd number keeps it so: each vector of the result is a permutation of one vector of the input. Which
/// permutation depends only on the three bits that the first of them carries over. Groups of sixteen vectors go to groups
/// of sixteen for the same reason, so that bits are reversed once for each group.
#[inline(always)]
pub(crate) fn automorphism_values(m: Wide<Avx512>, out: &mut [u64], input: &[u64], element: usize) {
    let (lanes, length) = (m.lanes(), input.len());
    assert!(length.is_power_of_two() && length >= 16 && out.len() == length);
    let log_group = (length / 8).ilog2().min(4);
    let (group, groups) = (1usize << log_group, (length / 8) >> log_group);
    let (log_groups, carries) = (groups.ilog2(), 8 * group - 1);
    let permutations = [0, 1, 2, 3, 4, 5, 6, 7].map(|carried| {
        let indices =
            [0, 1, 2, 3, 4, 5, 6, 7].map(|j| reversed(carried + reversed(j, 3) * element, 3) as u64);
        // SAFETY: one vector.
        unsafe { lanes.load(indices.as_ptr()) }
    });
    // What a vector's place in its group adds to the high bits, and which place high bits lead to.
    let mut steps = [0; 16];
    let mut places = [0; 16];
    for place in 0..group {
        places[place] = reversed(place, log_group);
        steps[place] = places[place].wrapping_mul(element);
    }
    for index in 0..groups {
        // Exponents are 2h + 1; this is h of the group's first value.
        let first = reversed(index, log_groups).wrapping_mul(element).wrapping_add(element / 2);
        let from = reversed(first & (groups - 1), log_groups) * group;
        let high = first >> log_groups;
        for place in 0..group {
            let high = high.wrapping_add(steps[place]) & carries;
            let from = from + places[high & (group - 1)];
            // SAFETY: both rows have `groups * group` vectors.
            unsafe {
                let x = lanes.load(input.as_ptr().add(8 * from));
                let to = out.as_mut_ptr().add(8 * (index * group + place));
                lanes.store(to, lanes.permute(x, permutations[high >> log_group]));
            }
        }
    }
}

/// The `bits` low bits of `x`, reversed.
#[inline(always)]
fn reversed(x: usize, bits: u32) -> usize {
    // In two steps, because a shift by all 64 bits is none.
    (x.reverse_bits() >> 1) >> (usize::BITS - 1 - bits)
}

/// `row[i] = round(values[i] 2^scale_bits) mod q`, ties to even, for products of at most 2^62 in magnitude.
///
/// Plain Rust, but compiled for instructions that round and convert several floats at once. The quotient is estimated in
/// floating point with a relative error below 2^-51 and rounded to an integer. From q = 2^13 on it is below 2^49, so that
/// the remainder is less than `(1/2 + 1/4) q` in magnitude.
// `clamp` would keep a NaN.
#[allow(clippy::manual_clamp)]
#[inline(always)]
pub(crate) fn quantise<M: Modular>(m: M, row: &mut [u64], values: &[u64], scale_bits: i32) {
    const LIMIT: f64 = (1u64 << 62) as f64;
    let (q, scale) = (m.modulus().value() as i64, crate::portable::power_of_two(scale_bits));
    let inverse = 1.0 / q as f64;
    for (residue, &value) in row.iter_mut().zip(values) {
        let x = (f64::from_bits(value) * scale).round_ties_even();
        // What makes the conversions safe, whatever the values: the smaller of a NaN and the limit is the limit.
        let x = x.min(LIMIT).max(-LIMIT);
        let quotient = (x * inverse).round_ties_even();
        // SAFETY: neither is NaN or exceeds 2^62 in magnitude.
        let (x, quotient) = unsafe { (x.to_int_unchecked::<i64>(), quotient.to_int_unchecked::<i64>()) };
        let rest = x.wrapping_sub(quotient.wrapping_mul(q));
        *residue = (rest + (rest >> 63 & q)) as u64;
    }
}
