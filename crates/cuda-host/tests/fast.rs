//! Matrix products of the CUDA backend at sizes and magnitudes that decide which kernels run: integer sums, exact doubles,
//! the simple kernel. The kernels run on the host.

use std::process::ExitCode;

use arras_cuda::Cuda;
use arras_cuda_host::{HostDriver, HostOptions, Lanes};
use arras_rns::{Backend, Coefficient, LimbSet, Poly, Ring, prime};
use libtest_mimic::{Arguments, Failed, Trial};

const DEGREE: usize = 1 << 11;

/// `rows` by `columns` weights up to `largest` in magnitude, with primes of these bits.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    rows: usize,
    columns: usize,
    largest: i64,
    bits: [u32; 2],
}

const CASES: [Case; 6] = [
    Case { name: "narrow tile of 8", rows: 5, columns: 70, largest: 1 << 19, bits: [50, 50] },
    Case { name: "narrow tiles of 16", rows: 12, columns: 33, largest: 1 << 20, bits: [60, 40] },
    // 64 * 2^23 * 2^24 is 2^53; one more is out of the doubles' range.
    Case { name: "doubles at the bound", rows: 20, columns: 64, largest: 1 << 23, bits: [50, 50] },
    Case { name: "integers past the bound", rows: 20, columns: 64, largest: (1 << 23) + 1, bits: [50, 50] },
    Case { name: "doubles of two sizes", rows: 17, columns: 40, largest: 1 << 12, bits: [60, 36] },
    Case { name: "weights past 32 bits", rows: 3, columns: 9, largest: 1 << 40, bits: [50, 50] },
];

/// Words that the case and a position give.
fn word(at: usize) -> u64 {
    let z = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (z ^ z >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ z >> 27
}

fn run(case: Case, lanes: Lanes) -> Result<(), Box<dyn std::error::Error>> {
    let Case { rows, columns, largest, bits, .. } = case;
    let first = prime::ntt_primes(bits[0], DEGREE, 1, &[])?;
    let second = prime::shifted_primes(bits[1], DEGREE, 1, &first)
        .or_else(|_| prime::ntt_primes(bits[1], DEGREE, 1, &first))?;
    let primes = [first[0], second[0]];
    let ring = Ring::new(DEGREE, &primes)?;
    let options = HostOptions { lanes, ..HostOptions::default() };
    let cuda = Cuda::new(HostDriver::new(options), &arras_cuda_host::images()?)?;
    let queue = cuda.queue()?;
    let tables = cuda.tables(&queue, &ring)?;
    // Row 0 and coefficient 0 are extreme throughout; q / 2 and its neighbour are the ends of centred residues.
    let weights: Vec<i64> = (0..rows * columns)
        .map(|at| match at / columns {
            0 => -largest,
            1 => largest,
            _ => (word(at) % (2 * largest as u64 + 1)) as i64 - largest,
        })
        .collect();
    let residues: Vec<u64> = (0..columns * 2 * DEGREE)
        .map(|at| {
            let q = primes[at / DEGREE % 2];
            match at % DEGREE {
                0 => q - 1,
                1 => q / 2,
                2 => q / 2 + 1,
                _ => word(at) % q,
            }
        })
        .collect();
    let limbs = LimbSet::range(0..2);
    let mut input: Poly<_, Coefficient> = Poly::allocate(&cuda, &queue, &ring, limbs, columns)?;
    cuda.upload(&queue, &mut input.view_mut(), &residues)?;
    let matrix = cuda.matrix(&queue, &tables, rows, columns, &weights)?;
    let mut out: Poly<_, Coefficient> = Poly::allocate(&cuda, &queue, &ring, limbs, rows)?;
    cuda.matrix_product(&queue, &tables, &mut out.view_mut(), &matrix, &input.view())?;
    let mut found = vec![0; rows * 2 * DEGREE];
    cuda.download(&queue, &out.view(), &mut found)?;
    for (at, &found) in found.iter().enumerate() {
        let (row, place) = (at / (2 * DEGREE), at % (2 * DEGREE));
        let q = i128::from(primes[place / DEGREE]);
        let sum: i128 = (0..columns)
            .map(|c| i128::from(weights[row * columns + c]) * i128::from(residues[c * 2 * DEGREE + place]))
            .sum();
        if i128::from(found) != sum.rem_euclid(q) {
            let expected = sum.rem_euclid(q);
            return Err(format!("row {row}, limb and place {place}: {found}, expected {expected}").into());
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let missing = arras_cuda_host::images().is_err();
    let orders = [("forward", Lanes::Forward), ("reverse", Lanes::Reverse), ("random", Lanes::Random(3))];
    let trials = orders.into_iter().flat_map(|(order, lanes)| {
        CASES.into_iter().map(move |case| {
            let trial = move || run(case, lanes).map_err(|error| Failed::from(error.to_string()));
            Trial::test(format!("{order}/{}", case.name), trial).with_ignored_flag(missing)
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
