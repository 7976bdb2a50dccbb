//! Inputs of trials: reproducible, and biased towards the ends of ranges.

use crate::{LimbSet, Result, Ring, prime};

use super::oracle;

/// SplitMix64: the seed alone gives every input of a trial again.
#[derive(Clone, Debug)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    /// The next word.
    pub(super) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.word() % bound as u64) as usize
    }
}

/// What fills a polynomial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Values {
    Zero,
    /// `q - 1` everywhere.
    Max,
    /// 0 and `q - 1` in turn.
    Alternating,
    /// A random choice of 0, 1, the two middle residues and `q - 1`.
    Edges,
    Random,
}

impl Values {
    pub(super) const ALL: [Values; 5] =
        [Values::Random, Values::Max, Values::Edges, Values::Alternating, Values::Zero];

    pub(super) fn fill(self, row: &mut [u64], q: u64, rng: &mut Rng) {
        for (i, x) in row.iter_mut().enumerate() {
            *x = match self {
                Values::Zero => 0,
                Values::Max => q - 1,
                Values::Alternating => (i as u64 % 2) * (q - 1),
                Values::Edges => [0, 1, q / 2, q / 2 + 1, q - 1][rng.below(5)],
                Values::Random => rng.word() % q,
            };
        }
    }
}

/// Polynomials on the host: `[batch][limb][N]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Words {
    pub(super) batch: usize,
    pub(super) limbs: LimbSet,
    pub(super) degree: usize,
    pub(super) words: Vec<u64>,
}

impl Words {
    /// Row by row.
    pub(super) fn from_rows(
        batch: usize,
        limbs: LimbSet,
        degree: usize,
        mut row: impl FnMut(usize, usize) -> Vec<u64>,
    ) -> Self {
        let rows = (0..batch).flat_map(|b| limbs.iter().map(move |limb| (b, limb)));
        Self { batch, limbs, degree, words: rows.flat_map(|(b, limb)| row(b, limb)).collect() }
    }

    pub(super) fn row(&self, b: usize, limb: usize) -> &[u64] {
        let start = (b * self.limbs.len() + self.limbs.rank(limb)) * self.degree;
        &self.words[start..start + self.degree]
    }

    /// The same shape with every row replaced.
    pub(super) fn map(&self, mut row: impl FnMut(usize, &[u64]) -> Vec<u64>) -> Self {
        Self::from_rows(self.batch, self.limbs, self.degree, |b, limb| row(limb, self.row(b, limb)))
    }

    /// Only some limbs.
    pub(super) fn with_limbs(&self, limbs: LimbSet) -> Self {
        Self::from_rows(self.batch, limbs, self.degree, |b, limb| self.row(b, limb).to_vec())
    }

    /// The residues of coefficient `i` of polynomial `b`.
    pub(super) fn residues(&self, b: usize, i: usize) -> Vec<u64> {
        self.limbs.iter().map(|limb| self.row(b, limb)[i]).collect()
    }

    /// Coefficient by coefficient: from the residues of one to residues modulo `limbs`.
    pub(super) fn map_residues(&self, limbs: LimbSet, f: impl Fn(&[u64]) -> Vec<u64>) -> Self {
        let count = limbs.len();
        let mut words = vec![0; self.batch * count * self.degree];
        for b in 0..self.batch {
            for i in 0..self.degree {
                for (rank, residue) in f(&self.residues(b, i)).into_iter().enumerate() {
                    words[(b * count + rank) * self.degree + i] = residue;
                }
            }
        }
        Self { batch: self.batch, limbs, degree: self.degree, words }
    }

    /// Into the evaluation domain, by the oracle.
    pub(super) fn ntt(&self, ring: &Ring) -> Self {
        self.map(|limb, row| oracle::ntt(row, ring.root(limb), ring.modulus(limb).value()))
    }

    /// Into the coefficient domain, by the oracle.
    pub(super) fn intt(&self, ring: &Ring) -> Self {
        self.map(|limb, row| oracle::intt(row, ring.root(limb), ring.modulus(limb).value()))
    }

    /// Where word `index` lies.
    pub(super) fn place(&self, index: usize) -> String {
        let (row, i) = (index / self.degree, index % self.degree);
        let limb = self.limbs.iter().nth(row % self.limbs.len()).unwrap_or_default();
        format!("polynomial {}, limb {limb}, index {i}", row / self.limbs.len())
    }
}

/// The primes of `limbs`, in order.
pub(super) fn primes(ring: &Ring, limbs: LimbSet) -> Vec<u64> {
    limbs.iter().map(|limb| ring.modulus(limb).value()).collect()
}

/// Sizes and forms of primes that take different paths in fast code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// As small as the degree allows with enough primes to choose from.
    Small,
    /// The largest of so many bits.
    Bits(u32),
    /// `c * 2^32 + 1` of 45 bits, below the bound of mask-free 52-bit arithmetic.
    Shifted,
    /// Another size for every limb.
    Mixed,
}

impl Class {
    pub(super) const ALL: [Class; 8] = [
        Class::Small,
        Class::Bits(30),
        Class::Bits(46),
        Class::Bits(50),
        Class::Bits(57),
        Class::Bits(60),
        Class::Shifted,
        Class::Mixed,
    ];

    pub(super) fn name(self) -> String {
        match self {
            Class::Small => "small".into(),
            Class::Bits(bits) => format!("{bits}bit"),
            Class::Shifted => "shifted".into(),
            Class::Mixed => "mixed".into(),
        }
    }

    /// A ring of `count` such primes.
    pub(super) fn ring(self, degree: usize, count: usize) -> Result<Ring> {
        let primes = match self {
            Class::Small => prime::ntt_primes(degree.trailing_zeros() + 9, degree, count, &[]),
            Class::Bits(bits) => prime::ntt_primes(bits, degree, count, &[]),
            Class::Shifted => prime::shifted_primes(45, degree, count, &[]),
            Class::Mixed => mixed(degree, count),
        };
        Ring::new(degree, &primes?)
    }
}

fn mixed(degree: usize, count: usize) -> Result<Vec<u64>> {
    let mut primes = Vec::new();
    for bits in [60, 30, 50, 58, 46, 57, 40, 51].into_iter().cycle().take(count) {
        let prime = prime::ntt_primes(bits, degree, 1, &primes)?;
        primes.extend(prime);
    }
    Ok(primes)
}
