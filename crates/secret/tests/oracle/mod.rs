//! The encrypted linear head in schoolbook arithmetic: big integers, sums of products, remainders. It follows
//! `docs/formats.md`, `docs/arithmetic.md` and `docs/seed-expansion.md`, and shares with the crates only the
//! expansion of seeds (which has known answers of its own) and the frame around a payload.
#![allow(clippy::unwrap_used)]

use arras_rns::{Modulus, Purpose, SeedLabel};
use arras_wire::frame::{self, Fingerprint, Kind};

pub(crate) const DEGREE: usize = 2048;

/// A head in integers, and how its replies are cut.
pub(crate) struct Integers {
    pub(crate) weights: Vec<Vec<i64>>,
    pub(crate) bias: Vec<i64>,
    pub(crate) weight_scale: u32,
    pub(crate) reply_bits: u8,
    pub(crate) logit_bound: f64,
}

/// A request as it stands in the bytes.
pub(crate) struct Request {
    fingerprint: Fingerprint,
    transposed: bool,
    dimension: usize,
    images: usize,
    seed: [u8; 32],
    key: [u8; 8],
    rows: Vec<u8>,
}

/// Polynomials that are answered together.
struct Piece {
    images: usize,
    polynomials: usize,
    first_object: u64,
}

impl Request {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let frame = frame::decode(bytes, Kind::EncryptedFeatures, 1 << 32).unwrap();
        let payload = frame.payload;
        let number = |at: usize| u32::from_le_bytes(payload[at..at + 4].try_into().unwrap()) as usize;
        let seed_at = 18 + 32 * usize::from(payload[17]);
        Self {
            fingerprint: frame.fingerprint,
            transposed: payload[0] == 1,
            dimension: number(1),
            images: number(5),
            seed: payload[seed_at..seed_at + 32].try_into().unwrap(),
            key: payload[seed_at + 32..seed_at + 40].try_into().unwrap(),
            rows: payload[seed_at + 40..].to_vec(),
        }
    }

    fn images_per_polynomial(&self) -> usize {
        (DEGREE / self.dimension).min(self.images)
    }

    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if self.transposed {
            for first in (0..self.images).step_by(DEGREE) {
                let first_object = (pieces.len() * self.dimension) as u64;
                let images = DEGREE.min(self.images - first);
                pieces.push(Piece { images, polynomials: self.dimension, first_object });
            }
            return pieces;
        }
        let per = self.images_per_polynomial();
        let (mut first, full) = (0, self.images / per);
        while first < full {
            let polynomials = 256.min(full - first);
            pieces.push(Piece { images: polynomials * per, polynomials, first_object: first as u64 });
            first += polynomials;
        }
        if !self.images.is_multiple_of(per) {
            pieces.push(Piece { images: self.images % per, polynomials: 1, first_object: full as u64 });
        }
        pieces
    }
}

/// Arithmetic modulo one prime, by remainders.
pub(crate) struct Field {
    q: u128,
    root: u128,
}

impl Field {
    pub(crate) fn new(q: u64) -> Self {
        let mut field = Self { q: q.into(), root: 0 };
        let order = 2 * DEGREE as u128;
        let any = (2..).map(|g| field.power(g, (field.q - 1) / order));
        let any = any.into_iter().find(|&r| field.power(r, DEGREE as u128) == field.q - 1).unwrap();
        let odd = (1..order).step_by(2).map(|k| field.power(any, k));
        field.root = odd.min().unwrap();
        field
    }

    fn power(&self, base: u128, exponent: u128) -> u128 {
        let squares = std::iter::successors(Some(base % self.q), |x| Some(x * x % self.q));
        let used = squares.take(128).enumerate().filter(|(bit, _)| exponent >> bit & 1 == 1);
        used.fold(1, |product, (_, square)| product * square % self.q)
    }

    fn residue(&self, x: i128) -> u64 {
        x.rem_euclid(self.q as i128) as u64
    }

    /// The coefficients of the polynomial with these values at `root^(2 bitrev(i) + 1)`.
    pub(crate) fn interpolate(&self, values: &[u64]) -> Vec<u64> {
        let bits = values.len().ilog2();
        let reversed = |i: usize| i.reverse_bits() >> (usize::BITS - bits);
        let natural: Vec<u128> = (0..values.len()).map(|i| values[reversed(i)].into()).collect();
        let inverse = self.power(self.root, self.q - 2);
        let sums = self.fourier(&natural, inverse * inverse % self.q);
        let mut factor = self.power(values.len() as u128, self.q - 2);
        let coefficients = sums.into_iter().map(|x| {
            let coefficient = x * factor % self.q;
            factor = factor * inverse % self.q;
            coefficient as u64
        });
        coefficients.collect()
    }

    /// `sum_j x_j w^(jk)` for every k, by halves.
    fn fourier(&self, x: &[u128], w: u128) -> Vec<u128> {
        if let [single] = x {
            return vec![*single];
        }
        let [even, odd] = [0, 1].map(|parity| {
            let half: Vec<u128> = x.iter().skip(parity).step_by(2).copied().collect();
            self.fourier(&half, w * w % self.q)
        });
        let mut power = 1;
        let turned: Vec<u128> = odd
            .iter()
            .map(|y| {
                let turned = y * power % self.q;
                power = power * w % self.q;
                turned
            })
            .collect();
        let low = even.iter().zip(&turned).map(|(x, y)| (x + y) % self.q);
        low.chain(even.iter().zip(&turned).map(|(x, y)| (x + self.q - y) % self.q)).collect()
    }

    /// The value of a polynomial at `root^exponent`, by Horner's rule.
    pub(crate) fn evaluate(&self, coefficients: &[u64], exponent: usize) -> u64 {
        let z = self.power(self.root, exponent as u128);
        coefficients.iter().rev().fold(0, |value, &c| (value * z + u128::from(c)) % self.q) as u64
    }

    fn mask(&self, request: &Request, object: u64) -> Vec<u64> {
        let label = SeedLabel { seed: request.seed, purpose: Purpose::Ciphertext, object, polynomial: 0 };
        let mut values = vec![0; DEGREE];
        label.expand(Modulus::new(self.q as u64).unwrap(), &mut values);
        self.interpolate(&values)
    }

    fn trim(&self, x: u64, bits: u8) -> u64 {
        let rounded = ((u128::from(x) << (bits + 1)) + self.q) / (2 * self.q);
        (rounded % (1 << bits)) as u64
    }
}

/// Coefficient `k` of `a(X) w(X)` modulo `X^N + 1`.
fn negacyclic(a: &[u64], w: &[i64], k: usize) -> i128 {
    let term = |(t, &w): (usize, &i64)| {
        let (at, sign) = if k >= t { (k - t, 1) } else { (a.len() + k - t, -1) };
        sign * i128::from(w) * i128::from(a[at])
    };
    w.iter().enumerate().map(term).sum()
}

fn bits_of(bytes: &[u8], at: usize, width: usize) -> u64 {
    (0..width).map(|i| u64::from(bytes[(at + i) / 8] >> ((at + i) % 8) & 1) << i).sum()
}

/// Takes a row of packed residues off the front.
fn take_row(rows: &mut &[u8], width: usize, count: usize) -> Vec<u64> {
    let (row, rest) = rows.split_at((count * width).div_ceil(8));
    *rows = rest;
    (0..count).map(|i| bits_of(row, i * width, width)).collect()
}

fn put_row(row: impl Iterator<Item = u64>, width: u8, out: &mut Vec<u8>) {
    let (mut held, mut bits) = (0u128, 0);
    for value in row {
        held |= u128::from(value) << bits;
        bits += u32::from(width);
        while bits >= 8 {
            out.push(held as u8);
            held >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(held as u8);
    }
}

/// The bytes that the server has to answer.
pub(crate) fn reply(field: &Field, request: &Request, head: &Integers) -> Vec<u8> {
    let width = (128 - field.q.leading_zeros()) as usize;
    let mut payload = vec![u8::from(request.transposed)];
    for number in [request.dimension, request.images, head.bias.len()] {
        payload.extend((number as u32).to_le_bytes());
    }
    payload.extend(head.weight_scale.to_le_bytes());
    payload.push(head.reply_bits);
    payload.extend(head.logit_bound.to_le_bytes());
    payload.extend(request.key);
    let mut rows = &request.rows[..];
    for piece in request.pieces() {
        let objects = piece.first_object..piece.first_object + piece.polynomials as u64;
        let masks: Vec<Vec<u64>> = objects.map(|object| field.mask(request, object)).collect();
        let per = piece.images / piece.polynomials;
        let (lines, line) = if request.transposed {
            (piece.images, request.dimension)
        } else {
            (piece.polynomials, per * request.dimension)
        };
        let body: Vec<Vec<u64>> = (0..lines).map(|_| take_row(&mut rows, width, line)).collect();
        let answer = if request.transposed { transposed } else { dot };
        let (logits, masked) = answer(request, head, &body, &masks);
        let trimmed = |x: i128| field.trim(field.residue(x), head.reply_bits);
        for part in [logits, masked] {
            part.iter()
                .for_each(|row| put_row(row.iter().map(|&x| trimmed(x)), head.reply_bits, &mut payload));
        }
    }
    assert!(rows.is_empty());
    frame::encode(Kind::Reply, &request.fingerprint, &payload)
}

type Rows = Vec<Vec<i128>>;

/// Every b-part and every mask times w(X) = sum_j W_j X^(D-1-j), class by class.
fn dot(request: &Request, head: &Integers, body: &[Vec<u64>], masks: &[Vec<u64>]) -> (Rows, Rows) {
    let (mut logits, mut masked) = (Vec::new(), Vec::new());
    for (weights, &bias) in head.weights.iter().zip(&head.bias) {
        let w: Vec<i64> = weights.iter().rev().copied().collect();
        for (b, a) in body.iter().zip(masks) {
            let mut whole = b.clone();
            whole.resize(DEGREE, 0);
            let ends = (request.dimension - 1..b.len()).step_by(request.dimension);
            logits.push(ends.map(|k| negacyclic(&whole, &w, k) + i128::from(bias)).collect());
            masked.push((0..DEGREE).map(|k| negacyclic(a, &w, k)).collect());
        }
    }
    (logits, masked)
}

/// The matrix times the rows of the images, and times the masks.
fn transposed(_: &Request, head: &Integers, body: &[Vec<u64>], masks: &[Vec<u64>]) -> (Rows, Rows) {
    let inner = |weights: &[i64], x: &mut dyn Iterator<Item = u64>| -> i128 {
        weights.iter().zip(x).map(|(&w, x)| i128::from(w) * i128::from(x)).sum()
    };
    let logits = head.weights.iter().zip(&head.bias).map(|(weights, &bias)| {
        body.iter().map(|row| inner(weights, &mut row.iter().copied()) + i128::from(bias)).collect()
    });
    let masked = head
        .weights
        .iter()
        .map(|weights| (0..DEGREE).map(|k| inner(weights, &mut masks.iter().map(|mask| mask[k]))).collect());
    (logits.collect(), masked.collect())
}

/// `[images][classes]` logits in units of `q / 2^bits`: c0 + c1 s at the places of the logits, centred.
pub(crate) fn phases(request: &Request, reply: &[u8], secret: &[i64]) -> Vec<i64> {
    let payload = frame::decode(reply, Kind::Reply, 1 << 32).unwrap().payload;
    let classes = u32::from_le_bytes(payload[9..13].try_into().unwrap()) as usize;
    let bits = payload[17];
    let mut rows = &payload[34..];
    let mut phases = Vec::new();
    for piece in request.pieces() {
        let per = piece.images / piece.polynomials;
        let (polynomials, places): (usize, Vec<usize>) = if request.transposed {
            (1, (0..piece.images).collect())
        } else {
            (piece.polynomials, (0..per).map(|i| (i + 1) * request.dimension - 1).collect())
        };
        let mut part = |count| -> Vec<_> {
            (0..classes * polynomials).map(|_| take_row(&mut rows, bits.into(), count)).collect()
        };
        let (logits, masks) = (part(places.len()), part(DEGREE));
        for image in 0..piece.images {
            let (polynomial, place) = (image / places.len(), image % places.len());
            for class in 0..classes {
                let row = class * polynomials + polynomial;
                let sum = i128::from(logits[row][place]) + negacyclic(&masks[row], secret, places[place]);
                let modulus = 1i128 << bits;
                let phase = sum.rem_euclid(modulus);
                phases.push((if 2 * phase >= modulus { phase - modulus } else { phase }) as i64);
            }
        }
    }
    phases
}
