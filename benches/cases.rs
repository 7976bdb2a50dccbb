//! The cases of `arras bench` under Criterion, each checked against the oracle before it is timed. Words after `--` select
//! cases by name. Records are made by `arras bench`; this is for Criterion's own comparisons while working on a kernel.

use std::time::Duration;

use arras::cli::road::RoadGroup;
use arras_cpu::Cpu;
use arras_measure::{Cases, CpuDevice, Result, Sweep};
use arras_rns::Backend as _;
use criterion::{Criterion, Throughput};

fn main() -> Result<()> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(20))
        .measurement_time(Duration::from_millis(100))
        .nresamples(1000)
        .without_plots()
        .configure_from_args();
    // Criterion filters too, but only after a case has been made and checked.
    let words = words();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let device = CpuDevice::new(Cpu::sequential());
    let sweep = sweep();
    let cases = Cases::new(&sweep);
    let cases = if sweep.heads { cases.with(RoadGroup) } else { cases };
    cases.visit(&device, &wanted, &mut |cases| {
        for case in cases {
            let (backend, queue) = case.on;
            let mut group = criterion.benchmark_group(&case.name);
            group.throughput(match case.work.read + case.work.written {
                0 => Throughput::Elements(case.items.0),
                bytes => Throughput::Bytes(bytes),
            });
            let (mut failure, run) = (Ok(()), &mut case.run);
            group.bench_function(case.items.1, |bencher| {
                bencher.iter(|| {
                    let done = run().and_then(|()| Ok(backend.synchronize(queue)?));
                    failure = std::mem::replace(&mut failure, Ok(())).and(done);
                });
            });
            group.finish();
            failure?;
        }
        Ok(())
    })?;
    criterion.final_summary();
    Ok(())
}

/// The arguments that are neither options nor, as far as can be seen, their values.
fn words() -> Vec<String> {
    let arguments: Vec<String> = std::env::args().collect();
    let pairs = arguments.windows(2).filter(|pair| !pair[1].starts_with('-'));
    let free = pairs.filter(|pair| !pair[0].starts_with("--") || pair[0] == "--bench");
    free.map(|pair| pair[1].clone()).collect()
}

/// Under `cargo bench` everything but the largest parameter set, whose operations take minutes; under `cargo test`, which runs
/// benches once, what takes seconds.
fn sweep() -> Sweep {
    let mut sweep = Sweep::default();
    sweep.sets.retain(|set| set.degree < 1 << 16);
    if std::env::args().any(|word| word == "--bench") {
        return sweep;
    }
    Sweep { degrees: vec![1 << 12], heads: false, ..sweep }
}
