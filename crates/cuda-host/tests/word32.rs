//! The transform templates with 32-bit words, run on the host, against the CPU backend.

mod support;

use std::process::ExitCode;

use arras_cpu::Cpu;
use arras_cuda::driver::{Driver, Launch};
use arras_cuda::fast::abi::{Factor32, Transform32Args};
use arras_cuda_host::{HostDriver, HostOptions, Lanes};
use arras_rns::{Backend, Coefficient, Input, Modulus, Poly, Ring, prime};
use libtest_mimic::{Failed, Trial};
use support::ensure;

const BATCH: usize = 3;

fn factor(q: Modulus, value: u64) -> Factor32 {
    Factor32 { value: value as u32, quotient: ((value << 32) / q.value()) as u32 }
}

/// Where factor number `from` of the order of powers stands for passes of four stages (`Twiddles` in kernels/include/butterfly.cuh).
fn place(from: usize, log_degree: usize) -> usize {
    let Some(stage) = from.checked_ilog2().map(|stage| stage as usize) else { return 0 };
    let before = stage - stage % 4;
    let groups = 16 >> (log_degree - before).min(4);
    let (j, block) = (stage - before, from - (1 << stage));
    let (u, group) = (block % (1 << j), block >> j);
    (((1 << j) + u) << before) + group % groups * ((1 << before) / groups) + group / groups
}

/// Values on the CPU: coefficients, and what the transform makes of them.
fn expected(ring: &Ring) -> arras_rns::Result<[Vec<u64>; 2]> {
    let cpu = Cpu::sequential();
    let queue = cpu.queue()?;
    let tables = cpu.tables(&queue, ring)?;
    let q = ring.modulus(0).value();
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        if state >> 62 == 0 { q - 1 } else { (state >> 20) % q }
    };
    let coefficients: Vec<u64> = (0..BATCH * ring.degree()).map(|_| next()).collect();
    let mut poly: Poly<_, Coefficient> = Poly::allocate(&cpu, &queue, ring, ring.limbs(), BATCH)?;
    cpu.upload(&queue, &mut poly.view_mut(), &coefficients)?;
    cpu.ntt(&queue, &tables, &mut poly.view_mut().retag(), Input::InPlace)?;
    let mut values = vec![0; coefficients.len()];
    cpu.download(&queue, &poly.view(), &mut values)?;
    Ok([coefficients, values])
}

/// Launches `entry` on `words`.
fn run(
    options: HostOptions,
    entry: &str,
    ring: &Ring,
    inverse: bool,
    words: &[u64],
) -> Result<Vec<u64>, Failed> {
    let (log_degree, q) = (ring.log_degree() as usize, ring.modulus(0));
    let mut table = vec![Factor32 { value: 0, quotient: 0 }; ring.degree()];
    for i in 0..ring.degree() {
        let power = q.pow(ring.root(0), (i as u64).reverse_bits() >> (64 - log_degree));
        table[place(i, log_degree)] = factor(q, if inverse { q.inverse(power) } else { power });
    }
    let scale = q.inverse(ring.degree() as u64);
    let last = q.inverse(q.pow(ring.root(0), ring.degree() as u64 / 2));
    let driver = HostDriver::new(options);
    let stream = driver.stream()?;
    let narrow: Vec<u32> = words.iter().map(|&word| word as u32).collect();
    let put = |bytes: &[u8]| {
        let at = driver.allocate(&stream, bytes.len())?;
        // SAFETY: just allocated with as many bytes.
        unsafe { driver.upload(&stream, at, bytes).map(|()| at) }
    };
    let arguments = Transform32Args {
        from: put(bytemuck::cast_slice(&narrow))?,
        to: driver.allocate(&stream, 4 * narrow.len())?,
        table: put(bytemuck::cast_slice(&table))?,
        scale: factor(q, scale),
        last: factor(q, q.mul(scale, last)),
        modulus: q.value() as u32,
        log_degree: log_degree as u32,
        batch: BATCH as u32,
        reserved: 0,
    };
    let function = driver.function(&driver.load("ntt/word32", &[])?, entry)?;
    let threads = 1 << (log_degree - 4);
    let launch = Launch { grid: [1, 1, 2], threads, shared: (4 * 17) << (log_degree - 4) };
    let mut found = vec![0u32; narrow.len()];
    // SAFETY: the structure of the kernel, with stretches as long as it says.
    unsafe {
        driver.launch(&stream, &function, launch, bytemuck::bytes_of(&arguments))?;
        driver.download(&stream, bytemuck::cast_slice_mut(&mut found), arguments.to)?;
    }
    Ok(found.into_iter().map(u64::from).collect())
}

fn agrees(log_degree: usize, bits: u32, lanes: Lanes) -> Result<(), Failed> {
    let degree = 1 << log_degree;
    let ring = Ring::new(degree, &prime::ntt_primes(bits, degree, 1, &[])?)?;
    let [coefficients, values] = expected(&ring)?;
    let options = HostOptions { lanes, ..HostOptions::default() };
    let forward =
        run(options.clone(), &format!("arras_ntt32_whole_{log_degree}"), &ring, false, &coefficients)?;
    ensure(forward == values, || "the forward transform differs".into())?;
    let back = run(options, &format!("arras_intt32_whole_{log_degree}"), &ring, true, &values)?;
    Ok(ensure(back == coefficients, || "the inverse transform differs".into())?)
}

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for (log_degree, lanes) in [(11, Lanes::Forward), (12, Lanes::Reverse), (13, Lanes::Random(9))] {
        for bits in [20, 30] {
            let name = format!("2^{log_degree}/{bits} bits/{lanes:?}");
            trials.push(Trial::test(name, move || agrees(log_degree, bits, lanes)));
        }
    }
    support::run(trials)
}
