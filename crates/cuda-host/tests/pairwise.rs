//! The CUDA backend, its kernels run on the host, against the CPU backend at large degrees: every operation, every pair of
//! degree, number of limbs, batch and size of primes, word for word.

mod support;

use std::process::ExitCode;

use arras_cpu::Cpu;
use arras_cuda::Cuda;
use arras_cuda_host::{HostDriver, HostOptions, Lanes, Schedule};
use arras_rns::{
    Backend, Coefficient, Evaluation, Input, KeySwitchPlan, LimbSet, ModDownPlan, Packing, Poly, Positions,
    PreparedView, Purpose, Quantise, Result, Ring, RingTables, SeedLabel, prime,
};
use libtest_mimic::Trial;

const LOG_DEGREES: [u32; 4] = [13, 14, 15, 16];
const BITS: [u32; 5] = [30, 46, 50, 57, 60];
const LIMBS: [usize; 3] = [1, 3, 8];
const BATCHES: [usize; 2] = [1, 3];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Case {
    log_degree: u32,
    bits: u32,
    limbs: usize,
    batch: usize,
}

/// Every pair of values of two parameters occurs; a trial of its own makes sure.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, log_degree) in LOG_DEGREES.into_iter().enumerate() {
        for (j, bits) in BITS.into_iter().enumerate() {
            let (limbs, batch) = (LIMBS[(i + j) % 3], BATCHES[(i / 2 + j) % 2]);
            cases.push(Case { log_degree, bits, limbs, batch });
        }
    }
    cases
}

fn pairs_are_covered() -> std::result::Result<(), String> {
    let all = cases();
    let met = |has: &dyn Fn(&Case) -> bool, what: String| {
        support::ensure(all.iter().any(has), || format!("{what} does not occur"))
    };
    for limbs in LIMBS {
        for log in LOG_DEGREES {
            met(&|c| c.limbs == limbs && c.log_degree == log, format!("{limbs} limbs at 2^{log}"))?;
        }
        for bits in BITS {
            met(&|c| c.limbs == limbs && c.bits == bits, format!("{limbs} limbs of {bits} bits"))?;
        }
        for batch in BATCHES {
            met(&|c| c.limbs == limbs && c.batch == batch, format!("{limbs} limbs, batch {batch}"))?;
        }
    }
    for batch in BATCHES {
        for log in LOG_DEGREES {
            met(&|c| c.batch == batch && c.log_degree == log, format!("batch {batch} at 2^{log}"))?;
        }
        for bits in BITS {
            met(&|c| c.batch == batch && c.bits == bits, format!("batch {batch}, {bits} bits"))?;
        }
    }
    Ok(())
}

/// The chain of a case, and two more primes to switch with.
fn ring(case: Case) -> Result<Ring> {
    let degree = 1 << case.log_degree;
    // The largest go last: their product has to exceed that of any two others.
    let special = prime::ntt_primes(60, degree, 2, &[])?;
    let mut primes = prime::ntt_primes(case.bits, degree, case.limbs, &special)?;
    primes.extend(special);
    Ring::new(degree, &primes)
}

/// Residues that are the same on every backend: many at the ends of their range.
fn residues(ring: &Ring, limbs: LimbSet, batch: usize, seed: u64) -> Vec<u64> {
    let mut state = seed;
    let mut words = Vec::with_capacity(batch * limbs.len() * ring.degree());
    for _ in 0..batch {
        for limb in limbs.iter() {
            let q = ring.modulus(limb).value();
            words.extend((0..ring.degree()).map(|i| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                let random = state ^ state >> 29;
                if i % 5 == 0 { [0, 1, q / 2, q - 1][(random >> 40) as usize % 4] } else { random % q }
            }));
        }
    }
    words
}

/// One backend on its way through all operations.
struct Run<'c, B: Backend> {
    backend: &'c B,
    queue: B::Queue,
    tables: B::Tables,
    ring: Ring,
    case: Case,
    /// The chain without the primes to switch with.
    limbs: LimbSet,
    results: Vec<(&'static str, Vec<u64>)>,
}

impl<'c, B: Backend> Run<'c, B> {
    fn new(backend: &'c B, case: Case) -> Result<Self> {
        let (ring, queue) = (ring(case)?, backend.queue()?);
        let tables = backend.tables(&queue, &ring)?;
        let limbs = LimbSet::range(0..case.limbs);
        Ok(Self { backend, queue, tables, ring, case, limbs, results: Vec::new() })
    }

    fn poly<D: arras_rns::Domain>(&self, limbs: LimbSet, batch: usize, seed: u64) -> Result<Poly<B, D>> {
        let mut poly = Poly::allocate(self.backend, &self.queue, &self.ring, limbs, batch)?;
        let words = residues(&self.ring, limbs, batch, seed);
        self.backend.upload(&self.queue, &mut poly.view_mut(), &words)?;
        Ok(poly)
    }

    fn keep<D: arras_rns::Domain>(&mut self, name: &'static str, poly: &Poly<B, D>) -> Result<()> {
        let mut words = vec![0; poly.extent().words()];
        self.backend.download(&self.queue, &poly.view(), &mut words)?;
        self.results.push((name, words));
        Ok(())
    }

    fn transforms(&mut self) -> Result<()> {
        let (limbs, batch) = (self.limbs, self.case.batch);
        let x = self.poly::<Coefficient>(limbs, batch, 1)?;
        let mut out = self.poly::<Evaluation>(limbs, batch, 2)?;
        self.backend.ntt(&self.queue, &self.tables, &mut out.view_mut(), x.view().into())?;
        self.keep("ntt", &out)?;
        let mut back = self.poly::<Coefficient>(limbs, batch, 3)?;
        self.backend.intt(&self.queue, &self.tables, &mut back.view_mut(), out.view().into())?;
        self.keep("intt", &back)?;
        let mut inside = out.retag();
        self.backend.ntt(&self.queue, &self.tables, &mut inside.view_mut().retag(), Input::InPlace)?;
        self.backend.intt(&self.queue, &self.tables, &mut inside.view_mut(), Input::InPlace)?;
        self.keep("in place", &inside)?;
        for element in [5, 2 * self.ring.degree() - 1] {
            let mut turned = self.poly::<Coefficient>(limbs, batch, 4)?;
            let (queue, tables) = (&self.queue, &self.tables);
            self.backend.automorphism(queue, tables, &mut turned.view_mut(), &x.view(), element)?;
            self.keep("automorphism of coefficients", &turned)?;
            let mut turned = self.poly::<Evaluation>(limbs, batch, 4)?;
            let values = x.view().retag::<Evaluation>();
            self.backend.automorphism(&self.queue, &self.tables, &mut turned.view_mut(), &values, element)?;
            self.keep("automorphism of values", &turned)?;
        }
        Ok(())
    }

    fn pointwise(&mut self) -> Result<()> {
        let (limbs, batch, backend) = (self.limbs, self.case.batch, self.backend);
        let (a, b) = (self.poly::<Evaluation>(limbs, batch, 5)?, self.poly::<Evaluation>(limbs, batch, 6)?);
        let mut out = self.poly::<Evaluation>(limbs, batch, 7)?;
        let scalars: Vec<u64> = limbs.iter().map(|limb| self.ring.modulus(limb).value() - 2).collect();
        backend.add(&self.queue, &self.tables, &mut out.view_mut(), a.view().into(), &b.view())?;
        self.keep("add", &out)?;
        backend.sub(&self.queue, &self.tables, &mut out.view_mut(), Input::InPlace, &a.view())?;
        self.keep("sub", &out)?;
        backend.negate(&self.queue, &self.tables, &mut out.view_mut(), Input::InPlace)?;
        self.keep("negate", &out)?;
        backend.multiply_accumulate(&self.queue, &self.tables, &mut out.view_mut(), &a.view(), &b.view())?;
        self.keep("multiply_accumulate", &out)?;
        backend.multiply(&self.queue, &self.tables, &mut out.view_mut(), Input::InPlace, &b.view())?;
        self.keep("multiply", &out)?;
        let (queue, tables) = (&self.queue, &self.tables);
        backend.scale_add(queue, tables, &mut out.view_mut(), a.view().into(), &scalars, Some(&b.view()))?;
        self.keep("scale_add", &out)?;
        backend.copy(&self.queue, &mut out.view_mut(), &b.view())?;
        self.keep("copy", &out)
    }

    fn sums(&mut self) -> Result<()> {
        let (limbs, batch, backend) = (self.limbs, self.case.batch, self.backend);
        let keys = self.poly::<Evaluation>(self.ring.limbs(), 3 * batch, 8)?;
        let prepared = backend.prepare(&self.queue, &self.tables, &keys.view())?;
        let terms = [9, 10, 11].map(|seed| self.poly::<Evaluation>(limbs, batch, seed));
        let [x, y, z] = terms;
        let (x, y, z) = (x?, y?, z?);
        let mut out = self.poly::<Evaluation>(limbs, batch, 12)?;
        let right = PreparedView { prepared: &prepared, first: 0, term_stride: batch, batch_stride: 1 };
        let left = [x.view(), y.view(), z.view()];
        backend.inner_product(&self.queue, &self.tables, &mut out.view_mut(), &left, right)?;
        self.keep("inner_product", &out)?;

        let entries: Vec<i64> =
            (0..2 * batch as i64).map(|i| (i * 0x3141_5926) * (1 - 2 * (i % 2)) - 7).collect();
        let matrix = backend.matrix(&self.queue, &self.tables, 2, batch, &entries)?;
        let mut out = self.poly::<Evaluation>(limbs, 2, 13)?;
        backend.matrix_product(&self.queue, &self.tables, &mut out.view_mut(), &matrix, &x.view())?;
        self.keep("matrix_product", &out)
    }

    fn switching(&mut self) -> Result<()> {
        let (limbs, batch, backend) = (self.limbs, self.case.batch, self.backend);
        let special = self.ring.limbs().difference(limbs);
        let x = self.poly::<Evaluation>(self.ring.limbs(), batch, 14)?;
        let mut down = ModDownPlan::new(backend, &self.queue, &self.tables, limbs, special, batch)?;
        let mut out = self.poly::<Evaluation>(limbs, batch, 15)?;
        backend.mod_down(&self.queue, &self.tables, &mut down, &mut out.view_mut(), &x.view())?;
        self.keep("mod_down", &out)?;

        let digits: Vec<LimbSet> =
            limbs.iter().step_by(2).map(|i| LimbSet::range(i..i + 2).intersection(limbs)).collect();
        let key = self.poly::<Evaluation>(self.ring.limbs(), 2 * digits.len(), 16)?;
        let key = backend.prepare(&self.queue, &self.tables, &key.view())?;
        let mut plan =
            KeySwitchPlan::new(backend, &self.queue, &self.tables, limbs, &digits, special, batch)?;
        let d = self.poly::<Evaluation>(limbs, batch, 17)?;
        let mut second = self.poly::<Evaluation>(limbs, batch, 18)?;
        let (mut b, mut a) = (out.view_mut(), second.view_mut());
        backend.key_switch(&self.queue, &self.tables, &mut plan, &key, [&mut b, &mut a], &d.view())?;
        drop((b, a));
        self.keep("key_switch, first", &out)?;
        self.keep("key_switch, second", &second)
    }

    fn outside(&mut self) -> Result<()> {
        let (limbs, batch, backend, n) = (self.limbs, self.case.batch, self.backend, self.ring.degree());
        let values: Vec<u64> =
            (0..n).map(|i| ((i as f64 - 1000.25) * 1.000_123f64.powi(i as i32 % 4096)).to_bits()).collect();
        let mut buffer = backend.allocate(&self.queue, n)?;
        backend.write(&self.queue, &mut buffer, 0, &values)?;
        let how = Quantise { first: 0, batch_stride: 0, coefficient_stride: 1, count: n, scale_bits: 30 };
        let mut out = self.poly::<Coefficient>(limbs, batch, 19)?;
        backend.quantise(&self.queue, &self.tables, &mut out.view_mut(), &buffer, how)?;
        self.keep("quantise", &out)?;

        let label = |object| SeedLabel { seed: [7; 32], purpose: Purpose::Ciphertext, object, polynomial: 3 };
        let labels: Vec<_> = (0..batch as u64).map(label).collect();
        let mut a = self.poly::<Evaluation>(limbs, batch, 20)?;
        backend.expand_seed(&self.queue, &self.tables, &mut a.view_mut(), &labels)?;
        self.keep("expand_seed", &a)?;

        let first = LimbSet::single(0);
        let x = self.poly::<Coefficient>(first, batch, 21)?;
        let positions = Positions { first: 3, step: 5, count: n / 6 };
        let mut packed = vec![0; batch * (positions.count * 13).div_ceil(8)];
        backend.trim(&self.queue, &self.tables, &x.view(), 13, positions, &mut packed)?;
        self.results.push(("trim", packed.iter().map(|&byte| byte.into()).collect()));

        let bits = self.ring.modulus(0).bits();
        let count = n - 5;
        // Below half of any modulus of that many bits.
        let mut packed = vec![0x55u8; batch * (count * bits as usize).div_ceil(8)];
        let row = packed.len() / batch;
        packed.chunks_mut(row).for_each(|row| {
            clear_top_bits(row, count, bits as usize);
        });
        let mut out = self.poly::<Coefficient>(first, batch, 22)?;
        let packing = Packing::ByPolynomial { coefficients: count };
        backend.unpack(&self.queue, &self.tables, &mut out.view_mut(), packing, &packed)?;
        self.keep("unpack", &out)
    }

    fn all(mut self) -> Result<Vec<(&'static str, Vec<u64>)>> {
        self.transforms()?;
        self.pointwise()?;
        self.sums()?;
        self.switching()?;
        self.outside()?;
        self.backend.synchronize(&self.queue)?;
        debug_assert_eq!(self.tables.ring(), &self.ring);
        Ok(self.results)
    }
}

/// Clears the highest bit of every packed value, and the padding.
fn clear_top_bits(row: &mut [u8], count: usize, bits: usize) {
    for i in (0..count).map(|value| value * bits + bits - 1).chain(count * bits..8 * row.len()) {
        row[i / 8] &= !(1 << (i % 8));
    }
}

fn agrees(case: Case, cuda: Result<Cuda<HostDriver>>) -> std::result::Result<(), String> {
    let (cpu, cuda) = (Cpu::sequential(), cuda.map_err(|error| error.to_string())?);
    let expected = Run::new(&cpu, case).and_then(Run::all).map_err(|error| error.to_string())?;
    let found = Run::new(&cuda, case).and_then(Run::all).map_err(|error| error.to_string())?;
    support::ensure(expected.len() == found.len(), || "another number of results".into())?;
    for ((name, expected), (_, found)) in expected.iter().zip(&found) {
        let different = expected.iter().zip(found).position(|(x, y)| x != y);
        support::ensure(different.is_none() && expected.len() == found.len(), || {
            let at = different.unwrap_or(0);
            format!("{name}: word {at} is {:?}, expected {:?}", found.get(at), expected.get(at))
        })?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut trials = vec![Trial::test("every pair occurs", || pairs_are_covered().map_err(Into::into))];
    let orders = [Lanes::Forward, Lanes::Reverse, Lanes::Random(5)];
    for (index, case) in cases().into_iter().enumerate() {
        let lanes = orders[index % 3];
        let schedule = if index % 2 == 0 { Schedule::Latest } else { Schedule::Random(index as u64) };
        let options = HostOptions { lanes, schedule, ..HostOptions::default() };
        let Case { log_degree, bits, limbs, batch } = case;
        let name = format!("2^{log_degree}/{bits} bits/{limbs} limbs/batch {batch}/{lanes:?}");
        let body = move || agrees(case, support::cuda(options.clone())).map_err(Into::into);
        trials.push(Trial::test(name, body));
    }
    // The transforms that are the oracles of the fast ones, beyond the rows that fit shared memory.
    for (log_degree, bits, lanes) in [(13, 60, Lanes::Reverse), (14, 50, Lanes::Random(6))] {
        let case = Case { log_degree, bits, limbs: 3, batch: 1 };
        let options = HostOptions { lanes, ..HostOptions::default() };
        let body = move || agrees(case, support::simple(options.clone())).map_err(Into::into);
        trials.push(Trial::test(format!("simple/2^{log_degree}/{bits} bits/{lanes:?}"), body));
    }
    support::run(trials)
}
