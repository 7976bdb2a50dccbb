use crate::{Image, Result};

/// scikit-image's default number of bins.
const BINS: usize = 100;

/// Normalised mutual information of Studholme et al. 1999, `(H(A) + H(B)) / H(A, B)`: 1 for independent pictures, 2
/// for equal ones. Bytes of all channels together, in 100 equal bins from the smallest to the largest byte of each
/// picture. Two pictures of one colour each share no information: 1, where scikit-image gives not-a-number.
///
/// # Errors
/// Shapes that differ.
pub fn nmi_1_2(a: &Image, b: &Image) -> Result<f64> {
    a.same_shape(b)?;
    let entropies = Entropies::of(&binned(&a.to_bytes()), &binned(&b.to_bytes()));
    Ok(if entropies.joint > 0.0 { (entropies.a + entropies.b) / entropies.joint } else { 1.0 })
}

/// Mutual information over the mean of both entropies, `2 I(A; B) / (H(A) + H(B))`: 0 for independent pictures, 1 for
/// equal ones. Every byte value is a symbol, all channels together. Zero for two pictures of one colour each.
///
/// # Errors
/// Shapes that differ.
pub fn nmi_0_1(a: &Image, b: &Image) -> Result<f64> {
    a.same_shape(b)?;
    let entropies = Entropies::of(&a.to_bytes(), &b.to_bytes());
    let sum = entropies.a + entropies.b;
    Ok(if sum > 0.0 { 2.0 * (sum - entropies.joint).max(0.0) / sum } else { 0.0 })
}

/// Entropies in nats of two sequences of symbols and of their pairs.
struct Entropies {
    a: f64,
    b: f64,
    joint: f64,
}

impl Entropies {
    fn of(a: &[u8], b: &[u8]) -> Self {
        let mut joint = vec![0_u64; 1 << 16];
        let (mut of_a, mut of_b) = ([0_u64; 256], [0_u64; 256]);
        for (&a, &b) in a.iter().zip(b) {
            joint[usize::from(a) << 8 | usize::from(b)] += 1;
            of_a[usize::from(a)] += 1;
            of_b[usize::from(b)] += 1;
        }
        Self { a: entropy(&of_a), b: entropy(&of_b), joint: entropy(&joint) }
    }
}

fn entropy(counts: &[u64]) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    let shares = counts.iter().filter(|&&count| count > 0).map(|&count| count as f64 / total);
    // Sums of nothing but certainty are minus zero.
    0.0 - shares.map(|share| share * share.ln()).sum::<f64>()
}

/// The bin of every byte, with the edges that NumPy's `linspace` gives.
fn binned(bytes: &[u8]) -> Vec<u8> {
    let (low, high) = bytes.iter().fold((u8::MAX, u8::MIN), |(low, high), &b| (low.min(b), high.max(b)));
    if low == high {
        return vec![0; bytes.len()];
    }
    let (low, high) = (f64::from(low), f64::from(high));
    let step = (high - low) / BINS as f64;
    let edge = |index: usize| index as f64 * step + low;
    let bin_of = |byte: u8| (1..BINS).take_while(|&index| edge(index) <= f64::from(byte)).count() as u8;
    let table: Vec<u8> = (0..=u8::MAX).map(bin_of).collect();
    bytes.iter().map(|&byte| table[usize::from(byte)]).collect()
}
