//! Executes a few cases once each inside a function of its own, so that callgrind can count the instructions of each:
//! scripts/instruction-counts does. The names of the cases go to standard output in the order in which they ran.

use arras_cpu::{Cpu, CpuOptions};
use arras_measure::{Cases, CpuDevice, Error, Result, Sweep};

/// One case of every kernel.
const CASES: [&str; 14] = [
    "ntt/forward/",
    "ntt/inverse/",
    "pointwise/add/",
    "pointwise/multiply/",
    "pointwise/multiply_accumulate/",
    "pointwise/scale/",
    "automorphism/values/",
    "convert/base/",
    "product/inner/",
    "product/matrix/rows=5/columns=16/",
    "outside/expand_seed/",
    "outside/unpack/by=polynomial/",
    "outside/trim/",
    "ckks/rotate/",
];

fn main() -> Result<()> {
    let path = std::env::args().nth(1).unwrap_or_default();
    let path = path.parse().map_err(|_| Error::field("path", format!("{path:?}: portable or avx2")))?;
    let device = CpuDevice::new(Cpu::with(CpuOptions { threads: 1, path: Some(path) })?);
    // The smallest degree with a secure parameter set that switches keys.
    let sweep = Sweep {
        degrees: vec![1 << 12],
        limbs: vec![2],
        bits: vec![45, 50, 60],
        heads: false,
        ..Sweep::default()
    };
    let wanted = |name: &str| CASES.iter().any(|case| name.starts_with(case));
    Cases::new(&sweep).visit(&device, &wanted, &mut |cases| {
        for case in cases {
            // Tables, scratch and thread-local memory are there the second time.
            (case.run)()?;
            counted(&mut case.run)?;
            println!("{}", case.name);
        }
        Ok(())
    })
}

/// Where callgrind counts.
#[inline(never)]
fn counted(run: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    run()
}
