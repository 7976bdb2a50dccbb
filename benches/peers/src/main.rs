//! The transforms and row kernels of arras beside the transforms of tfhe-ntt, in interleaved rounds on one thread.
//!
//! Prints *units*: the time of a transform divided by the time of tfhe-ntt's forward AVX-512 transform of the same
//! degree with the prime 1125899902124033, both taken from the same round; the median over the rounds. Pin the process
//! to one core (`taskset -c 1 cargo run --release`). Every transform is checked against the portable kernels first.
//!
//! Arguments: the number of rounds (default 31), then any of `lazy`, `harvey`, `wide`, .. to select rows by substring.

use std::time::Instant;

use arras_cpu::Path;
use arras_cpu::kernels::LimbTable;
use arras_cpu::memory::Buffer;
use arras_cpu::tables::Tables;
use arras_rns::{Purpose, Ring, SeedLabel, prime};
use tfhe_ntt::prime64::Plan;

/// The prime of the unit: 50 bits, supports every degree here.
const UNIT_PRIME: u64 = 1_125_899_902_124_033;

type Failure = Box<dyn std::error::Error>;

/// Something to time: its label, and the code.
struct Row<'a> {
    label: String,
    work: Box<dyn FnMut() + 'a>,
    /// Nanoseconds, one entry per round.
    times: Vec<f64>,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = arguments.first().map_or(Ok(31), |word| word.parse())?;
    let wanted = arguments.get(1..).unwrap_or_default();
    for log_degree in 12..=16u32 {
        bench_degree(1 << log_degree, rounds, wanted)?;
    }
    Ok(())
}

fn bench_degree(degree: usize, rounds: usize, wanted: &[String]) -> Result<(), Failure> {
    // Below 2^45, 2^50 and 2^60: the three classes of primes.
    let mut primes = prime::ntt_primes(45, degree, 1, &[])?;
    primes.push(prime::ntt_primes(50, degree, 1, &[])?[0]);
    primes.push(prime::ntt_primes(60, degree, 1, &[])?[0]);
    let ring = Ring::new(degree, &primes)?;
    let tables = Path::available().map(|path| Ok((path, Tables::new(&ring, path)?)));
    let tables = tables.collect::<Result<Vec<_>, Failure>>()?;
    check(&ring, &tables)?;

    let plan = Plan::try_new(degree, UNIT_PRIME).ok_or("tfhe-ntt refuses the degree")?;
    let mut unit_row = filled(degree, UNIT_PRIME)?;
    let unit = Row::new("unit", move || plan.fwd(unit_row.as_mut_slice()));
    let mut rows = vec![unit];
    for &q in &primes {
        let plan = Plan::try_new(degree, q).ok_or("tfhe-ntt refuses the prime")?;
        let mut row = filled(degree, q)?;
        rows.push(Row::new(format!("tfhe-ntt forward {}", bits(q)), move || plan.fwd(row.as_mut_slice())));
    }
    for (path, tables) in &tables {
        for (limb, &q) in primes.iter().enumerate() {
            let table = tables.limb(limb);
            let (mut a, mut b) = (filled(degree, q)?, filled(degree, q)?);
            rows.push(Row::new(format!("{path} forward {}", bits(q)), move || table.ntt(a.as_mut_slice())));
            rows.push(Row::new(format!("{path} inverse {}", bits(q)), move || table.intt(b.as_mut_slice())));
        }
    }
    let path = Path::detect();
    let (_, fast) = &tables[tables.len() - 1];
    for (limb, &q) in primes.iter().enumerate() {
        push_rows(&mut rows, &format!("{path} {}", bits(q)), fast.limb(limb), degree)?;
    }
    push_matrix(&mut rows, fast.limb(0), degree)?;
    rows.retain(|row| {
        row.label == "unit" || wanted.is_empty() || wanted.iter().any(|w| row.label.contains(w))
    });
    for _ in 0..rounds {
        for row in &mut rows {
            let nanoseconds = time(&mut row.work);
            row.times.push(nanoseconds);
        }
    }
    report(degree, &rows);
    Ok(())
}

/// Element-wise kernels and sums of one limb.
fn push_rows<'a>(
    rows: &mut Vec<Row<'a>>,
    label: &str,
    table: &'a LimbTable,
    degree: usize,
) -> Result<(), Failure> {
    let q = table.modulus.value();
    let (a, b) = (filled(degree, q)?, filled(degree, q)?);
    let mut push =
        |name: &str, work: Box<dyn FnMut(&mut [u64], &[u64], &[u64]) + 'a>| -> Result<(), Failure> {
            let (mut work, mut out) = (work, filled(degree, q)?);
            let (a, b) = (filled(degree, q)?, filled(degree, q)?);
            rows.push(Row::new(format!("{label} {name}"), move || {
                work(out.as_mut_slice(), a.as_slice(), b.as_slice());
            }));
            Ok(())
        };
    push("copy", Box::new(|out, a, _| out.copy_from_slice(a)))?;
    push("add", Box::new(|out, a, b| table.add(out, Some(a), b)))?;
    push("multiply", Box::new(|out, a, b| table.multiply(out, Some(a), b)))?;
    push("multiply_accumulate", Box::new(|out, a, b| table.multiply_accumulate(out, a, b)))?;
    push("scale_add", Box::new(move |out, a, b| table.scale_add(out, Some(a), q / 3, Some(b))))?;
    push("automorphism of values", Box::new(|out, a, _| table.automorphism_values(out, a, 5)))?;
    let label_of = SeedLabel { seed: [1; 32], purpose: Purpose::Ciphertext, object: 0, polynomial: 0 };
    push("expand_seed", Box::new(move |out, _, _| table.expand_seed(out, &label_of)))?;
    let mut out = (filled(degree, q)?, filled(degree, q)?);
    rows.push(Row::new(format!("{label} two sums of 3"), move || {
        let (left, right) = ([a.as_slice(); 3], [b.as_slice(); 3]);
        table.inner_products([out.0.as_mut_slice(), out.1.as_mut_slice()], &left, [&right, &right]);
    }));
    Ok(())
}

/// The encrypted head, 768 x 5, on one limb, beside reading the same words.
fn push_matrix<'a>(rows: &mut Vec<Row<'a>>, table: &'a LimbTable, degree: usize) -> Result<(), Failure> {
    const COLUMNS: usize = 768;
    let weights: Vec<i64> = (0..5 * COLUMNS as i64).map(|i| (i * 7919) % 2_000_003 - 1_000_001).collect();
    let input = filled(COLUMNS * degree, table.modulus.value())?;
    let read = filled(COLUMNS * degree, table.modulus.value())?;
    let mut out = filled(5 * degree, table.modulus.value())?;
    rows.push(Row::new("head: reading 768 rows", move || {
        std::hint::black_box(read.as_slice().iter().fold(0, |sum: u64, &x| sum.wrapping_add(x)));
    }));
    rows.push(Row::new("head: 768 x 5", move || {
        for start in (0..degree).step_by(256) {
            let inputs: Vec<&[u64]> =
                input.as_slice().chunks_exact(degree).map(|row| &row[start..start + 256]).collect();
            let mut outputs: Vec<&mut [u64]> =
                out.as_mut_slice().chunks_exact_mut(degree).map(|row| &mut row[start..start + 256]).collect();
            let weights: Vec<&[i64]> = weights.chunks_exact(COLUMNS).collect();
            table.matrix_rows(&mut outputs, &weights, &inputs, 1 << 20, 1 << 30);
        }
    }));
    Ok(())
}

/// All paths give the words of the portable one.
fn check(ring: &Ring, tables: &[(Path, Tables)]) -> Result<(), Failure> {
    for limb in ring.limbs().iter() {
        let q = ring.modulus(limb).value();
        let (_, oracle) = &tables[0];
        let mut expected = filled(ring.degree(), q)?;
        let input = filled(ring.degree(), q)?;
        oracle.limb(limb).ntt(expected.as_mut_slice());
        for (path, tables) in tables {
            let mut row = filled(ring.degree(), q)?;
            tables.limb(limb).ntt(row.as_mut_slice());
            if row.as_slice() != expected.as_slice() {
                return Err(format!("{path}: forward transform modulo {q} is wrong").into());
            }
            tables.limb(limb).intt(row.as_mut_slice());
            if row.as_slice() != input.as_slice() {
                return Err(format!("{path}: inverse transform modulo {q} is wrong").into());
            }
        }
    }
    Ok(())
}

fn report(degree: usize, rows: &[Row]) {
    println!("N = {degree}");
    for row in rows {
        let ratios = row.times.iter().zip(&rows[0].times).map(|(time, unit)| time / unit);
        println!(
            "  {:<40} {:>10.2} us {:>7.3} units",
            row.label,
            median(&row.times) / 1e3,
            median_of(ratios)
        );
    }
}

impl<'a> Row<'a> {
    fn new(label: impl Into<String>, work: impl FnMut() + 'a) -> Self {
        Self { label: label.into(), work: Box::new(work), times: Vec::new() }
    }
}

/// Nanoseconds per run: the shortest of a few short series, which is the least disturbed.
fn time(work: &mut dyn FnMut()) -> f64 {
    work();
    let start = Instant::now();
    work();
    let once = start.elapsed().as_nanos().max(1) as f64;
    let runs = (40_000.0 / once).ceil().max(1.0) as u32;
    let mut shortest = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..runs {
            work();
        }
        shortest = shortest.min(start.elapsed().as_nanos() as f64 / f64::from(runs));
    }
    shortest
}

/// Canonical residues from a fixed multiplicative generator.
fn filled(degree: usize, q: u64) -> Result<Buffer, Failure> {
    let mut buffer = Buffer::new(degree).ok_or("out of memory")?;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for word in buffer.as_mut_slice() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *word = state % q;
    }
    Ok(buffer)
}

fn bits(q: u64) -> String {
    format!("{} bits", 64 - q.leading_zeros())
}

fn median(values: &[f64]) -> f64 {
    median_of(values.iter().copied())
}

fn median_of(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
