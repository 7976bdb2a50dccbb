//! Every path gives the words of the portable one, at the edges of the classes of moduli and of the residues.

use arras_cpu::kernels::{LimbTable, Trimmer};
use arras_cpu::tables::{Prepared, Tables};
use arras_cpu::{Cpu, CpuOptions, Path, portable};
use arras_rns::prime::is_prime;
use arras_rns::ring::{MAX_DEGREE, MIN_DEGREE};
use arras_rns::{
    Backend, Coefficient, Evaluation, Input, KeySwitchPlan, LimbSet, Poly, PreparedView, Purpose, Ring,
    RingTables, SeedLabel,
};
use libtest_mimic::{Arguments, Failed, Trial};

type Outcome = Result<(), Failed>;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for path in Path::ALL {
        let mut trial = |name: &str, run: fn(Path) -> Outcome| {
            let missing = path.missing();
            let reason = missing.map_or(String::new(), |feature| format!(" [no {feature}]"));
            let trial = Trial::test(format!("{path}: {name}{reason}"), move || run(path));
            trials.push(trial.with_ignored_flag(missing.is_some()));
        };
        trial("transforms", transforms);
        trial("transforms for products", transforms_for_products);
        trial("element by element", element_by_element);
        trial("inner products", inner_products);
        trial("automorphisms", automorphisms);
        trial("seeds", seeds);
        trial("quantised floats", quantised);
        trial("base conversion", base_conversion);
        trial("matrix products", matrix_products);
        trial("key switching", key_switching);
        trial("the name says the path", names);
    }
    trials.push(Trial::test("a path the processor lacks is refused", refusals));
    trials.push(Trial::test("packing and trimming", packing));
    libtest_mimic::run(&arguments, trials).exit();
}

/// The largest prime up to `bound` that supports the degree, and that is not in `taken`.
fn prime_up_to(bound: u64, degree: usize, taken: &[u64]) -> u64 {
    let step = 2 * degree as u64;
    let first = (bound - 1) / step * step + 1;
    (0..).map(|i| first - i * step).find(|q| is_prime(*q) && !taken.contains(q)).unwrap_or_default()
}

/// Primes at the upper edges of all classes, and on both sides of what the lazy transforms of this degree admit.
fn edge_primes(degree: usize) -> Vec<u64> {
    let log_degree = u64::from(degree.trailing_zeros());
    let lazy = ((1u64 << 52) / (4 * log_degree + 2)).min(1 << 46);
    let above = (lazy / (2 * degree as u64) + 1..).map(|k| k * 2 * degree as u64 + 1).find(|&q| is_prime(q));
    let mut primes = vec![above.unwrap_or_default()];
    for bound in [1 << 30, lazy, 1 << 46, 1 << 49, 1 << 50, 1 << 52, 1 << 57, 1 << 60] {
        primes.push(prime_up_to(bound, degree, &primes));
    }
    primes
}

/// Rows at the edges and in the middle: zeros, q - 1 throughout, alternating, one of each, random.
fn rows(degree: usize, q: u64, seed: u64) -> Vec<Vec<u64>> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64 ^ seed;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut rows = vec![
        vec![0; degree],
        vec![q - 1; degree],
        (0..degree).map(|i| if i % 2 == 0 { q - 1 } else { 0 }).collect(),
        (0..degree).map(|i| if i < degree / 2 { 0 } else { q - 1 }).collect(),
        (0..degree).map(|i| [0, 1, q / 2, q / 2 + 1, q - 1][i % 5]).collect(),
    ];
    rows.push((0..degree).map(|_| random() % q).collect());
    rows.push((0..degree).map(|_| if random() % 2 == 0 { q - 1 } else { random() % q }).collect());
    rows
}

fn equal(what: &str, q: u64, degree: usize, found: &[u64], expected: &[u64]) -> Outcome {
    match found.iter().zip(expected).position(|(x, y)| x != y) {
        None if found.len() == expected.len() => Ok(()),
        None => Err(format!("{what}: {} words instead of {}", found.len(), expected.len()).into()),
        Some(at) => Err(format!(
            "{what}, q = {q}, N = {degree}: word {at} is {} instead of {}",
            found[at], expected[at]
        )
        .into()),
    }
}

/// Runs `trial` with the kernels of the path and the portable ones, for every edge prime of a degree.
fn each_limb(path: Path, degree: usize, trial: impl Fn(&LimbTable, &LimbTable) -> Outcome) -> Outcome {
    let ring = Ring::new(degree, &edge_primes(degree))?;
    let (fast, oracle) = (Tables::new(&ring, path)?, Tables::new(&ring, Path::Portable)?);
    ring.limbs().iter().try_for_each(|limb| trial(fast.limb(limb), oracle.limb(limb)))
}

fn transforms(path: Path) -> Outcome {
    let mut degree = MIN_DEGREE;
    while degree <= MAX_DEGREE {
        each_limb(path, degree, |fast, oracle| {
            let q = fast.modulus.value();
            for row in rows(degree, q, 1) {
                let (mut found, mut expected) = (row.clone(), row.clone());
                fast.ntt(&mut found);
                oracle.ntt(&mut expected);
                equal("ntt", q, degree, &found, &expected)?;
                (found, expected) = (row.clone(), row);
                fast.intt(&mut found);
                oracle.intt(&mut expected);
                equal("intt", q, degree, &found, &expected)?;
                let mut elsewhere = vec![1; degree];
                fast.ntt(&mut expected);
                fast.intt_from(&mut elsewhere, Some(&expected));
                equal("intt from another row", q, degree, &elsewhere, &found)?;
            }
            Ok(())
        })?;
        degree *= 2;
    }
    Ok(())
}

fn element_by_element(path: Path) -> Outcome {
    type Kernel = fn(&LimbTable, &mut [u64], Option<&[u64]>, &[u64]);
    let kernels: [(&str, Kernel); 9] = [
        ("add", |t, out, a, b| t.add(out, a, b)),
        ("sub", |t, out, a, b| t.sub(out, a, b)),
        ("negate", |t, out, a, _| t.negate(out, a)),
        ("multiply", |t, out, a, b| t.multiply(out, a, b)),
        ("multiply_accumulate", |t, out, a, b| t.multiply_accumulate(out, a.unwrap_or(b), b)),
        ("scale", |t, out, a, b| t.scale_add(out, a, b[0], None)),
        ("scale_add", |t, out, a, b| t.scale_add(out, a, t.modulus.value() - 1, Some(b))),
        ("scale by a residue", |t, out, a, b| t.scale_add(out, a, b[b.len() - 1], Some(b))),
        ("sub_scale", |t, out, a, b| t.sub_scale(out, a, b, b[b.len() / 3])),
    ];
    for degree in [8, 16, 32, 1024] {
        each_limb(path, degree, |fast, oracle| {
            let q = fast.modulus.value();
            let all = rows(degree, q, 2);
            for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
                for (name, kernel) in kernels {
                    for in_place in [false, true] {
                        let first = if in_place { None } else { Some(a.as_slice()) };
                        let (mut found, mut expected) = (a.clone(), a.clone());
                        kernel(fast, &mut found, first, b);
                        kernel(oracle, &mut expected, first, b);
                        equal(name, q, degree, &found, &expected)?;
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Values that are not canonical everywhere, in the products that take them.
fn transforms_for_products(path: Path) -> Outcome {
    const TERMS: usize = 70;
    for degree in [8, 16, 32, 128, 1024, 4096, 65536] {
        let ring = Ring::new(degree, &edge_primes(degree))?;
        let (fast, oracle) = (Bench::new(path, &ring)?, Bench::new(Path::Portable, &ring)?);
        for limb in ring.limbs().iter() {
            let q = ring.modulus(limb).value();
            let terms = if degree > 128 { 1 } else { TERMS };
            let all = rows(degree, q, 5);
            // Once with the largest residues, once with others.
            let words: Vec<u64> =
                (0..terms).flat_map(|k| [&all[1][..], &all[k % all.len()]].concat()).collect();
            for row in &all {
                let run = |bench: &Bench| -> Result<[Vec<u64>; 4], Failed> {
                    let (right, table) = (bench.prepared(limb, 2 * terms, &words)?, bench.tables.limb(limb));
                    let mut values = row.clone();
                    table.ntt_for_product(&mut values, &words);
                    let mut found = [vec![1; degree], vec![2; degree], all[6].clone(), row.clone()];
                    let [first, second, difference, coefficients] = &mut found;
                    let left: Vec<&[u64]> = (0..terms).map(|_| &values[..]).collect();
                    table.inner_products([first, second], &left, right.terms(limb, 0, 2));
                    table.sub_scale(difference, None, &values, q - 2);
                    table.intt_before_product(coefficients, &words);
                    Ok(found)
                };
                for (found, expected) in run(&fast)?.iter().zip(&run(&oracle)?) {
                    equal("after a transform for products", q, degree, found, expected)?;
                }
            }
        }
    }
    Ok(())
}

fn inner_products(path: Path) -> Outcome {
    for (terms, degree) in [1, 2, 7, 8, 15, 16, 31, 300].into_iter().zip([32, 128].into_iter().cycle()) {
        let ring = Ring::new(degree, &edge_primes(degree))?;
        let (fast, oracle) = (Bench::new(path, &ring)?, Bench::new(Path::Portable, &ring)?);
        for (limb, modulus) in ring.moduli().iter().enumerate() {
            let q = modulus.value();
            let (all, others) = (rows(degree, q, 3), rows(degree, q, 4));
            for shift in 0..all.len() {
                let left: Vec<&[u64]> =
                    (0..terms).map(|k| all[(k / 5 + shift) % all.len()].as_slice()).collect();
                // The second component of the first shift is the largest residue throughout.
                let component = |k: usize, c: usize| match (shift, c) {
                    (0, 1) => others[1].as_slice(),
                    _ => others[(k / 3 + c * shift) % all.len()].as_slice(),
                };
                let words: Vec<u64> =
                    (0..terms).flat_map(|k| [component(k, 0), component(k, 1)].concat()).collect();
                let run = |bench: &Bench| -> Result<[Vec<u64>; 3], Failed> {
                    let right = bench.prepared(limb, 2 * terms, &words)?;
                    let table = bench.tables.limb(limb);
                    let mut found = [vec![1; degree], vec![2; degree], vec![3; degree]];
                    let [first, second, both] = &mut found;
                    table.inner_products([first, second], &left, right.terms(limb, 0, 2));
                    table.inner_product(both, &[left.as_slice(), &left].concat(), right.terms(limb, 0, 1));
                    Ok(found)
                };
                let (found, expected) = (run(&fast)?, run(&oracle)?);
                for (found, expected) in found.iter().zip(&expected) {
                    equal("inner product", q, degree, found, expected)?;
                }
                // Against arithmetic that knows nothing of kernels.
                for (c, found) in found[..2].iter().enumerate() {
                    let term =
                        |k: usize| u128::from(left[k][5]) * u128::from(component(k, c)[5]) % u128::from(q);
                    let sum = (0..terms).map(term).sum::<u128>() % u128::from(q);
                    equal("word 5 of an inner product", q, degree, &found[5..6], &[sum as u64])?;
                }
            }
        }
    }
    Ok(())
}

fn label() -> SeedLabel {
    SeedLabel { seed: [7; 32], purpose: Purpose::EvaluationKey, object: 3, polynomial: 1 }
}

fn automorphisms(path: Path) -> Outcome {
    for degree in [8, 16, 32, 64, 128, 256, 1024, 8192] {
        each_limb(path, degree, |fast, oracle| {
            let q = fast.modulus.value();
            for element in [1, 3, 5, degree - 1, degree + 1, 2 * degree - 1, degree / 2 + 3] {
                for row in rows(degree, q, 6).iter().skip(4) {
                    let (mut found, mut expected) = (vec![1; degree], vec![2; degree]);
                    fast.automorphism_values(&mut found, row, element);
                    oracle.automorphism_values(&mut expected, row, element);
                    equal("automorphism of values", q, degree, &found, &expected)?;
                    // Transforming there and back gives the automorphism of coefficients.
                    let mut coefficients = row.clone();
                    fast.intt(&mut coefficients);
                    fast.intt(&mut found);
                    fast.automorphism_coefficients(&mut expected, &coefficients, element);
                    equal("automorphism of coefficients", q, degree, &expected, &found)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn seeds(path: Path) -> Outcome {
    for degree in [8, 16, 512] {
        each_limb(path, degree, |fast, _| {
            let (mut found, mut expected) = (vec![0; degree], vec![1; degree]);
            fast.expand_seed(&mut found, &label());
            label().expand(fast.modulus, &mut expected);
            equal("expand_seed", fast.modulus.value(), degree, &found, &expected)
        })?;
    }
    Ok(())
}

/// A backend with tables for a ring.
struct Bench {
    cpu: Cpu,
    queue: arras_cpu::Queue,
    tables: Tables,
}

impl Bench {
    fn new(path: Path, ring: &Ring) -> Result<Self, Failed> {
        let cpu = Cpu::with(CpuOptions { threads: 1, path: Some(path) })?;
        let queue = cpu.queue()?;
        let tables = cpu.tables(&queue, ring)?;
        Ok(Self { cpu, queue, tables })
    }

    /// Polynomials made of the edge rows, a different one for every row.
    fn filled<D: arras_rns::Domain>(
        &self,
        limbs: LimbSet,
        batch: usize,
        seed: usize,
    ) -> Result<Poly<Cpu, D>, Failed> {
        let ring = self.tables.ring();
        let mut poly = Poly::allocate(&self.cpu, &self.queue, ring, limbs, batch)?;
        let mut words = Vec::new();
        for b in 0..batch {
            for limb in limbs.iter() {
                let kinds = rows(ring.degree(), ring.modulus(limb).value(), (seed + b) as u64);
                // Random rows more often than edges.
                words.extend(&kinds[(seed + b + limb) % (2 * kinds.len()) % kinds.len()]);
            }
        }
        self.cpu.upload(&self.queue, &mut poly.view_mut(), &words)?;
        Ok(poly)
    }

    /// So many entries modulo one limb.
    fn prepared(&self, limb: usize, entries: usize, words: &[u64]) -> Result<Prepared, Failed> {
        let (ring, limbs) = (self.tables.ring(), LimbSet::single(limb));
        let mut poly = Poly::<_, Evaluation>::allocate(&self.cpu, &self.queue, ring, limbs, entries)?;
        self.cpu.upload(&self.queue, &mut poly.view_mut(), words)?;
        Ok(self.cpu.prepare(&self.queue, &self.tables, &poly.view())?)
    }

    fn words<D: arras_rns::Domain>(&self, poly: &Poly<Cpu, D>) -> Result<Vec<u64>, Failed> {
        let mut words = vec![0; poly.extent().words()];
        self.cpu.download(&self.queue, &poly.view(), &mut words)?;
        Ok(words)
    }
}

/// Runs on the path and on the portable path, and compares all words that come out.
fn both(path: Path, ring: &Ring, what: &str, run: impl Fn(&Bench) -> Result<Vec<u64>, Failed>) -> Outcome {
    let found = run(&Bench::new(path, ring)?)?;
    let expected = run(&Bench::new(Path::Portable, ring)?)?;
    equal(what, 0, ring.degree(), &found, &expected)
}

/// 24 primes of 50 bits, 4 of 45 and 3 of 60.
fn long_chain(degree: usize) -> Result<Ring, Failed> {
    let mut primes = Vec::new();
    for (bound, count) in [(1u64 << 50, 24), (1 << 45, 4), (1 << 60, 3)] {
        for _ in 0..count {
            primes.push(prime_up_to(bound, degree, &primes));
        }
    }
    Ok(Ring::new(degree, &primes)?)
}

fn base_conversion(path: Path) -> Outcome {
    for degree in [8, 16, 32, 64, 256, 2048] {
        let ring = long_chain(degree)?;
        // From few and many narrow limbs, from wide ones, from a mixture; to all others.
        for source in [0..1, 0..3, 0..22, 24..28, 28..31, 22..30] {
            let source = LimbSet::range(source);
            let target = ring.limbs().difference(source);
            for seed in 0..3 {
                both(path, &ring, "base_convert", |bench| {
                    let Bench { cpu, queue, tables } = bench;
                    let converter = cpu.converter(queue, tables, source, target)?;
                    let input = bench.filled::<Coefficient>(source, 2, seed)?;
                    let mut out = bench.filled::<Coefficient>(target, 2, 9)?;
                    cpu.base_convert(queue, tables, &converter, &mut out.view_mut(), &input.view())?;
                    bench.words(&out)
                })?;
            }
        }
    }
    Ok(())
}

fn matrix_products(path: Path) -> Outcome {
    // The last kind does not fit the smallest modulus.
    let largest = [1i64, 1 << 20, (1 << 31) - 1, 1 << 44, 1 << 62];
    for (shape, degree) in [
        ((5, 40), 512),
        ((1, 3), 16),
        ((13, 17), 64),
        ((7, 100), 8),
        ((2, 800), 32),
        ((9, 1), 1024),
        ((1, 5001), 16),
    ] {
        let ring = long_chain(degree)?;
        let limbs: LimbSet = [0, 25, 30].into_iter().collect();
        let (rows, columns) = shape;
        for (seed, largest) in largest.into_iter().enumerate() {
            let entries: Vec<i64> = (0..rows * columns)
                .map(|i| [largest, -largest, 0, largest / 3, -1][(i * i + i / 7 + seed) % 5])
                .collect();
            both(path, &ring, "matrix_product", |bench| {
                let Bench { cpu, queue, tables } = bench;
                let matrix = cpu.matrix(queue, tables, rows, columns, &entries)?;
                let input = bench.filled::<Coefficient>(limbs, columns, seed)?;
                let mut out = bench.filled::<Coefficient>(limbs, rows, 9)?;
                cpu.matrix_product(queue, tables, &mut out.view_mut(), &matrix, &input.view())?;
                bench.words(&out)
            })?;
        }
    }
    Ok(())
}

fn key_switching(path: Path) -> Outcome {
    for degree in [8, 64, 4096] {
        let ring = long_chain(degree)?;
        let (first, second) = (LimbSet::range(0..4), LimbSet::range(24..27));
        let special = LimbSet::range(28..31).union(LimbSet::range(4..6));
        let limbs = first.union(second);
        for seed in 0..2 {
            both(path, &ring, "key_switch", |bench| {
                let Bench { cpu, queue, tables } = bench;
                let mut plan = KeySwitchPlan::new(cpu, queue, tables, limbs, &[first, second], special, 2)?;
                let key = bench.filled::<Evaluation>(limbs.union(special), 4, 5)?;
                let key = cpu.prepare(queue, tables, &key.view())?;
                let input = bench.filled::<Evaluation>(limbs, 2, seed)?;
                let mut out = [bench.filled(limbs, 2, 9)?, bench.filled(limbs, 2, 9)?];
                let [a, b] = &mut out;
                cpu.key_switch(
                    queue,
                    tables,
                    &mut plan,
                    &key,
                    [&mut a.view_mut(), &mut b.view_mut()],
                    &input.view(),
                )?;
                let mut words = bench.words(&out[0])?;
                words.extend(bench.words(&out[1])?);
                // The unfused product of the same digits.
                cpu.mod_up(queue, tables, &mut plan, &input.view())?;
                let digits = plan.extended()?;
                let right = PreparedView { prepared: &key, first: 1, term_stride: 2, batch_stride: 0 };
                let mut sum = bench.filled(limbs.union(special), 2, 9)?;
                cpu.inner_product(queue, tables, &mut sum.view_mut(), &digits, right)?;
                words.extend(bench.words(&sum)?);
                cpu.intt(queue, tables, &mut sum.view_mut().retag(), Input::InPlace)?;
                words.extend(bench.words(&sum)?);
                Ok(words)
            })?;
        }
    }
    Ok(())
}

fn quantised(path: Path) -> Outcome {
    for degree in [8, 64, 512] {
        each_limb(path, degree, |fast, oracle| {
            let q = fast.modulus.value();
            for scale in [-950, -3, 0, 1, 40, 1000] {
                let values: Vec<u64> = (0..degree)
                    .map(|i| {
                        let x = ((i * 7919) % 1013) as f64 / 8.0 - 63.0;
                        // Up to 2^62 after scaling, halves included.
                        let size = [0, 40, 56, -1][i % 4];
                        (x * 2f64.powi(size) * 2f64.powi(-scale / 2) * 2f64.powi(-(scale - scale / 2)))
                            .to_bits()
                    })
                    .collect();
                if !values.iter().all(|&x| portable::in_range(f64::from_bits(x), scale)) {
                    return Err(format!("a test value is out of range at scale 2^{scale}").into());
                }
                let (mut found, mut expected) = (vec![1; degree], vec![2; degree]);
                fast.quantise(&mut found, &values, scale);
                oracle.quantise(&mut expected, &values, scale);
                equal("quantise", q, degree, &found, &expected)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// What a wire format needs: trimming without division, and packing word by word.
fn packing() -> Outcome {
    let ring = Ring::new(256, &edge_primes(256))?;
    for &modulus in ring.moduli() {
        let q = modulus.value();
        for row in rows(256, q, 8) {
            for count in [0, 1, 7, 8, 9, 255, 256] {
                let row = &row[..count];
                let mut packed = vec![0xff; (count * modulus.bits() as usize).div_ceil(8)];
                portable::pack(row.iter().copied(), modulus.bits(), &mut packed);
                for (i, &x) in row.iter().enumerate() {
                    let bit = |k: usize| u64::from(packed[k / 8] >> (k % 8) & 1);
                    let start = i * modulus.bits() as usize;
                    let read = (0..modulus.bits() as usize).fold(0, |sum, k| sum | bit(start + k) << k);
                    equal("pack", q, count, &[read], &[x])?;
                }
                let mut unpacked = vec![1; count];
                if portable::unpack(&mut unpacked, &packed, modulus).is_err() {
                    return Err("unpack refused".into());
                }
                equal("unpack", q, count, &unpacked, row)?;
            }
            for bits in [1, 2, 13, 32, 59, 60] {
                let trimmer = Trimmer::new(modulus, bits);
                let found: Vec<u64> = row.iter().map(|&x| trimmer.trim(x)).collect();
                let expected: Vec<u64> = row.iter().map(|&x| portable::trim(x, bits, modulus)).collect();
                equal("trim", q, 256, &found, &expected)?;
            }
        }
    }
    Ok(())
}

fn names(path: Path) -> Outcome {
    let cpu = Cpu::with(CpuOptions { threads: 1, path: Some(path) })?;
    let name = cpu.name();
    if name != format!("cpu ({path})") || cpu.path() != path || path.to_string().parse() != Ok(path) {
        return Err(name.into());
    }
    Ok(())
}

fn refusals() -> Outcome {
    for path in Path::ALL {
        let made = Cpu::with(CpuOptions { threads: 1, path: Some(path) });
        match (path.missing(), made) {
            (None, Ok(_)) => {}
            (Some(feature), Err(error)) if error.to_string().contains(feature) => {}
            (missing, made) => return Err(format!("{path}: {missing:?}, but {made:?}").into()),
        }
    }
    if Path::detect() != Cpu::sequential().path() || "sse9".parse::<Path>().is_ok() {
        return Err("detection or parsing".into());
    }
    Ok(())
}
