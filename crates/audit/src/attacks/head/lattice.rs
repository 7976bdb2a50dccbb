//! The weights of a small head from one trimmed reply.
//!
//! Coefficient k of component 1 is `sum_i w_i a_(k-i)` modulo q, of which the client gets the upper r bits: m of them are a
//! point at a distance of about `sqrt(m / 12) q / 2^r` from the lattice `{A w mod q}`, whose other points are further apart
//! by far if m is large enough. The embedding of Kannan (1987) makes the difference a shortest vector, and the reduction of
//! Lenstra, Lenstra and Lovász (1982) finds it up to some dimension; block reduction goes further.

use arras_ckks::Context;
use arras_ckks::bytes::labels;
use arras_heads::layout::Layout;
use arras_heads::{Query, Reply};
use arras_rns::{Backend, Coefficient, Evaluation, Input, LimbSet, Modulus, Poly};
use arras_wire::bits;

use crate::{Error, Result};

/// Quality of the reduction (Lovász's condition).
const DELTA: f64 = 0.99;
/// Largest dimension that is reduced: beyond it double precision is not enough.
const MAX_DIMENSION: usize = 60;

/// The integer weights `[C][D]` of a head from the reply to one image in layout dot, or nothing where the reduction does not
/// find weights that explain every coefficient of the reply.
///
/// # Errors
/// Another layout; damaged bytes; a failing device.
pub fn weights<B: Backend>(context: &Context<B>, query: &Query, reply: &Reply) -> Result<Option<Vec<i64>>> {
    let (degree, dimension) = (reply.groups.degree, reply.groups.dimension);
    let (Some((piece, packed)), Layout::Dot, 1) =
        (reply.pieces().next(), reply.groups.layout, reply.groups.images)
    else {
        return Err(Error::invalid("reply", "is not to one image in layout dot"));
    };
    let mask = mask(context, query, &piece)?;
    let q = context.params().ring().modulus(0);
    let row = bits::packed_len(degree, reply.bits);
    let mut all = Vec::new();
    for masks in packed.masks.chunks_exact(row) {
        let mut words = vec![0; degree];
        bits::unpack(masks, reply.bits, &mut words)
            .map_err(|problem| arras_wire::Error::field("coefficients", problem))?;
        let equations = Equations { q, bits: reply.bits, mask: &mask, words: &words };
        let Some(mut found) = equations.solve(dimension) else { return Ok(None) };
        found.reverse();
        all.extend(found);
    }
    Ok(Some(all))
}

/// The coefficients of the mask of a query modulo the first prime, expanded from its public seed.
fn mask<B: Backend>(
    context: &Context<B>,
    query: &Query,
    piece: &arras_heads::layout::Piece,
) -> Result<Vec<u64>> {
    let first = LimbSet::single(0);
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    let mut mask: Poly<B, Evaluation> = context.allocate(first, 1)?;
    backend.expand_seed(queue, tables, &mut mask.view_mut(), &labels(query.label(piece), 1))?;
    let mut mask: Poly<B, Coefficient> = mask.retag();
    backend.intt(queue, tables, &mut mask.view_mut(), Input::InPlace)?;
    let mut words = vec![0; context.params().degree()];
    backend.download(queue, &mask.view(), &mut words)?;
    Ok(words)
}

/// The root Hermite factor that a reduction has to reach for a head of D features: with `r' = r - 1/4` bits per equation the gap
/// between the first two minima is `2^(r' - D log2(q) / m)` and largest, per dimension, for `m = 2 D log2(q) / r'`. The
/// reduction of Lenstra, Lenstra and Lovász reaches 1.02, block reduction with blocks of 250 about 1.0053.
#[must_use]
pub fn root_hermite_factor(dimension: usize, bits: u32, log_modulus: f64) -> f64 {
    let bits = f64::from(bits) - 0.25;
    (bits * bits / (4.0 * dimension as f64 * log_modulus)).exp2()
}

/// `trim(sum_i w_i a_(k-i) mod q) = words[k]` for every k.
struct Equations<'a> {
    q: Modulus,
    bits: u32,
    mask: &'a [u64],
    words: &'a [u64],
}

impl Equations<'_> {
    fn solve(&self, dimension: usize) -> Option<Vec<i64>> {
        let count =
            (2.0 * dimension as f64 * f64::from(self.q.bits()) / f64::from(self.bits)).ceil() as usize + 2;
        if count + 1 > MAX_DIMENSION {
            return None;
        }
        // The first D equations as unknowns: x = A1 w, and the others are B x with B = A2 A1^-1.
        let first: Vec<Vec<u64>> = (0..dimension).map(|k| self.row(k, dimension)).collect();
        let inverse = inverse(self.q, first)?;
        let mut basis = Vec::with_capacity(count + 1);
        for i in 0..dimension {
            let mut vector = vec![0_i64; count + 1];
            vector[i] = 1;
            for (k, entry) in vector.iter_mut().enumerate().take(count).skip(dimension) {
                let row = self.row(k, dimension);
                let sum = row
                    .iter()
                    .zip(&inverse)
                    .fold(0, |sum, (&a, inverse)| self.q.add(sum, self.q.mul(a, inverse[i])));
                *entry = self.q.centre(sum);
            }
            basis.push(vector);
        }
        for k in dimension..count {
            let mut vector = vec![0; count + 1];
            vector[k] = self.q.value() as i64;
            basis.push(vector);
        }
        // What trimming rounds off is uniform; the last coordinate is as large as the others are on average.
        let step = self.q.value() as f64 / f64::from(self.bits).exp2();
        let last = (step / 12_f64.sqrt()).round().max(1.0) as i64;
        let mut target: Vec<i64> = (0..count).map(|k| self.approximate(k)).collect();
        target.push(last);
        basis.push(target.clone());
        reduce(&mut basis);
        let found = basis.iter().find(|vector| vector[count].abs() == last)?;
        let sign = found[count].signum();
        let exact: Vec<u64> =
            (0..dimension).map(|k| self.q.reduce_signed(i128::from(target[k] - sign * found[k]))).collect();
        let weights: Vec<i64> = inverse_times(self.q, &inverse, &exact);
        (0..self.words.len()).all(|k| self.explains(k, &weights)).then_some(weights)
    }

    /// The coefficients of equation k: `a_(k-i)`, negated where the index wraps.
    fn row(&self, k: usize, dimension: usize) -> Vec<u64> {
        let degree = self.mask.len();
        let entry = |i: usize| match k.checked_sub(i) {
            Some(at) => self.mask[at],
            None => self.q.negate(self.mask[degree + k - i]),
        };
        (0..dimension).map(entry).collect()
    }

    /// The middle of the residues that trim to word k, centred.
    fn approximate(&self, k: usize) -> i64 {
        let value = (u128::from(self.words[k]) * u128::from(self.q.value())) >> self.bits;
        self.q.centre(self.q.reduce(value))
    }

    /// Whether weights give word k: what tells them from a short vector that is none.
    fn explains(&self, k: usize, weights: &[i64]) -> bool {
        let row = self.row(k, weights.len());
        let residue = row
            .iter()
            .zip(weights)
            .fold(0, |sum, (&a, &w)| self.q.add(sum, self.q.mul(a, self.q.reduce_signed(w.into()))));
        let q = u128::from(self.q.value());
        let trimmed = ((u128::from(residue) << (self.bits + 1)) + q) / (2 * q);
        trimmed as u64 & ((1 << self.bits) - 1) == self.words[k]
    }
}

/// The inverse of a square matrix modulo a prime, by Gauss and Jordan; `None` if there is none.
fn inverse(q: Modulus, mut matrix: Vec<Vec<u64>>) -> Option<Vec<Vec<u64>>> {
    let size = matrix.len();
    for (i, row) in matrix.iter_mut().enumerate() {
        row.extend((0..size).map(|j| u64::from(i == j)));
    }
    for column in 0..size {
        let pivot = (column..size).find(|&row| matrix[row][column] != 0)?;
        matrix.swap(column, pivot);
        let factor = q.inverse(matrix[column][column]);
        matrix[column].iter_mut().for_each(|value| *value = q.mul(*value, factor));
        let chosen = matrix[column].clone();
        for (_, values) in matrix.iter_mut().enumerate().filter(|&(row, _)| row != column) {
            let factor = values[column];
            values.iter_mut().zip(&chosen).for_each(|(value, &c)| *value = q.sub(*value, q.mul(factor, c)));
        }
    }
    Some(matrix.into_iter().map(|row| row[size..].to_vec()).collect())
}

fn inverse_times(q: Modulus, inverse: &[Vec<u64>], vector: &[u64]) -> Vec<i64> {
    let dot = |row: &Vec<u64>| row.iter().zip(vector).fold(0, |sum, (&a, &x)| q.add(sum, q.mul(a, x)));
    inverse.iter().map(|row| q.centre(dot(row))).collect()
}

/// Lenstra, Lenstra and Lovász's reduction with floating-point orthogonalisation (Schnorr and Euchner 1994): rows are reduced
/// against the earlier ones until nothing changes, with the coefficients computed anew each time. The vectors are linearly
/// independent, with entries below 2^50.
fn reduce(basis: &mut [Vec<i64>]) {
    let count = basis.len();
    let mut ortho = Orthogonal { coefficients: vec![vec![0.0; count]; count], squares: vec![0.0; count] };
    ortho.update(basis, 0);
    let mut k = 1;
    while k < count {
        ortho.size_reduce(basis, k);
        let mu = ortho.coefficients[k][k - 1];
        if ortho.squares[k] >= (DELTA - mu * mu) * ortho.squares[k - 1] {
            k += 1;
        } else {
            basis.swap(k, k - 1);
            ortho.update(basis, k - 1);
            k = (k - 1).max(1);
        }
    }
}

/// Gram-Schmidt coefficients and the squared norms of the orthogonal vectors.
struct Orthogonal {
    coefficients: Vec<Vec<f64>>,
    squares: Vec<f64>,
}

impl Orthogonal {
    /// Recomputes row k from the rows before it.
    fn update(&mut self, basis: &[Vec<i64>], k: usize) {
        let dot = |a: &[i64], b: &[i64]| a.iter().zip(b).map(|(&a, &b)| a as f64 * b as f64).sum::<f64>();
        let mut scaled = vec![0.0; k];
        for j in 0..k {
            let earlier: f64 = (0..j).map(|i| self.coefficients[j][i] * scaled[i]).sum();
            scaled[j] = dot(&basis[k], &basis[j]) - earlier;
            self.coefficients[k][j] = scaled[j] / self.squares[j];
        }
        let inside: f64 = (0..k).map(|j| self.coefficients[k][j] * scaled[j]).sum();
        self.squares[k] = (dot(&basis[k], &basis[k]) - inside).max(f64::MIN_POSITIVE);
    }

    fn size_reduce(&mut self, basis: &mut [Vec<i64>], k: usize) {
        // Every pass gains about fifty bits; the limit only guards against rounding that never settles.
        for _ in 0..64 {
            self.update(basis, k);
            let mut is_reduced = true;
            for j in (0..k).rev() {
                let factor = self.coefficients[k][j].round();
                if factor == 0.0 || self.coefficients[k][j].abs() < 0.51 {
                    continue;
                }
                is_reduced = false;
                let (earlier, rest) = basis.split_at_mut(k);
                // What comes out fits, whatever happens on the way.
                let subtract =
                    |(a, &b): (&mut i64, &i64)| *a = a.wrapping_sub((factor as i64).wrapping_mul(b));
                rest[0].iter_mut().zip(&earlier[j]).for_each(subtract);
                for i in 0..j {
                    self.coefficients[k][i] -= factor * self.coefficients[j][i];
                }
                self.coefficients[k][j] -= factor;
            }
            if is_reduced {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn reduction_finds_a_planted_short_vector() {
        let mut random = Random::new("test lattice", &[]);
        let q = 65_537_i64;
        let count = 16;
        // Rows (1, .., q a_i ..) of a lattice with the short vector that is planted in the last coordinate.
        let secret: Vec<i64> = (0..count).map(|_| random.below(3) as i64 - 1).collect();
        let public: Vec<i64> = (0..count).map(|_| random.below(q as usize) as i64).collect();
        let sum: i64 = secret.iter().zip(&public).map(|(s, a)| s * a).sum::<i64>().rem_euclid(q);
        // Two such equations decide; one vector (secret, 1) is far shorter than all others.
        let second: Vec<i64> = (0..count).map(|_| random.below(q as usize) as i64).collect();
        let other: i64 = secret.iter().zip(&second).map(|(s, a)| s * a).sum::<i64>().rem_euclid(q);
        let weight = 1 << 20;
        let mut basis: Vec<Vec<i64>> = (0..count)
            .map(|i| {
                let mut row = vec![0; count + 3];
                row[i] = 1;
                (row[count + 1], row[count + 2]) = (weight * public[i], weight * second[i]);
                row
            })
            .collect();
        let mut last = vec![0; count + 3];
        (last[count], last[count + 1], last[count + 2]) = (1, -weight * sum, -weight * other);
        basis.push(last);
        for place in [count + 1, count + 2] {
            let mut row = vec![0; count + 3];
            row[place] = weight * q;
            basis.push(row);
        }
        reduce(&mut basis);
        let short = &basis[0];
        let sign = short[count].signum();
        assert!(short[count + 1..].iter().all(|&x| x == 0) && sign != 0);
        assert_eq!(short[..count].iter().map(|x| sign * x).collect::<Vec<_>>(), secret);
    }

    #[test]
    fn inverses_modulo_a_prime_are_inverses() {
        let q = Modulus::new(562_941_363_486_721).unwrap();
        let mut random = Random::new("test inverse", &[]);
        let matrix: Vec<Vec<u64>> =
            (0..9).map(|_| (0..9).map(|_| q.reduce(random.word().into())).collect()).collect();
        let inverted = inverse(q, matrix.clone()).unwrap();
        for (i, row) in matrix.iter().enumerate() {
            let product = inverse_times(q, &inverted, &(0..9).map(|j| matrix[j][i]).collect::<Vec<_>>());
            assert_eq!(product, (0..9).map(|j| i64::from(i == j)).collect::<Vec<_>>(), "{row:?}");
        }
        assert!(inverse(q, vec![vec![1, 2], vec![2, 4]]).is_none());
    }

    #[test]
    fn a_token_of_768_features_is_beyond_this_reduction() {
        assert!(root_hermite_factor(8, 34, 49.0) > 1.5);
        let factor = root_hermite_factor(768, 34, 49.0);
        assert!((1.005..1.006).contains(&factor), "{factor}");
    }
}
