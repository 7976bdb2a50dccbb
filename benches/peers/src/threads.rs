//! Two threads beside two independent copies.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use arras_cpu::Cpu;
use arras_measure::record::Ratio;
use arras_measure::stats::median_interval;
use arras_measure::sweep::Sweep;
use arras_measure::{Cases, CpuDevice, Ready};

use crate::Failure;
use crate::rows::Threads;

/// How long both sides of a round work, about: what waking a thread takes must not count.
const ROUND_SECONDS: f64 = 0.02;
/// Two.
const COPIES: usize = 2;

/// The rate of two threads that share a batch over the rate of two copies that have half of it each. `None` if the process
/// may use one core only.
pub fn measure(row: &Threads, rounds: usize) -> Result<Option<Ratio>, Failure> {
    if std::thread::available_parallelism()?.get() < COPIES {
        return Ok(None);
    }
    let rounds = std::thread::scope(|scope| {
        let (done, finished) = channel();
        let (mut starts, mut copies) = (Vec::new(), Vec::new());
        for _ in 0..COPIES {
            let (start, started) = channel();
            let done = done.clone();
            copies.push(scope.spawn(move || copy(row, &started, &done)));
            starts.push(start);
        }
        drop(done);
        let measured =
            with_case(row, COPIES, row.batch, &mut |case| beside(case, &starts, &finished, rounds));
        // Ends the copies.
        drop(starts);
        for copy in copies {
            copy.join().map_err(|_| "a copy failed")??;
        }
        measured
    })?;
    Ok(Some(Ratio {
        id: row.id.into(),
        what: format!("rate of {} over that of two independent copies", row.id),
        value: median_interval(&rounds, 0.95),
        target: row.target,
        at_least: true,
    }))
}

/// In every round, the time of the copies over the time of the threads that share the work.
fn beside(
    case: &mut Ready<'_, Cpu>,
    starts: &[Sender<u32>],
    finished: &Receiver<()>,
    rounds: usize,
) -> Result<Vec<f64>, Failure> {
    let all_finished = || starts.iter().try_for_each(|_| finished.recv());
    all_finished()?;
    (case.run)()?;
    let start = Instant::now();
    (case.run)()?;
    let executions = (ROUND_SECONDS / start.elapsed().as_secs_f64().max(1e-9)).ceil() as u32;
    let round = |_| -> Result<f64, Failure> {
        let start = Instant::now();
        for _ in 0..executions {
            (case.run)()?;
        }
        let shared = start.elapsed().as_secs_f64();
        let start = Instant::now();
        starts.iter().try_for_each(|copy| copy.send(executions))?;
        all_finished()?;
        Ok(start.elapsed().as_secs_f64() / shared)
    };
    (0..rounds).map(round).collect()
}

/// One copy: half the batch, on one thread, as often as it is told to; says when it has finished, the first time when it is
/// ready.
fn copy(row: &Threads, started: &Receiver<u32>, done: &Sender<()>) -> Result<(), String> {
    let work = &mut |case: &mut Ready<'_, Cpu>| -> Result<Vec<f64>, Failure> {
        (case.run)()?;
        done.send(())?;
        for executions in started {
            for _ in 0..executions {
                (case.run)()?;
            }
            done.send(())?;
        }
        Ok(Vec::new())
    };
    with_case(row, 1, row.batch / COPIES, work).map(drop).map_err(|error| error.to_string())
}

/// What is done with a case.
type Work<'w> = &'w mut dyn FnMut(&mut Ready<'_, Cpu>) -> Result<Vec<f64>, Failure>;

/// Makes and checks the case of a row for so many threads, and works with it.
fn with_case(row: &Threads, threads: usize, batch: usize, work: Work<'_>) -> Result<Vec<f64>, Failure> {
    let device = CpuDevice::new(Cpu::with_threads(threads)?);
    let sweep = Sweep {
        degrees: vec![row.degree],
        limbs: vec![1],
        bits: vec![50],
        batches: vec![batch],
        sets: Vec::new(),
        heads: false,
    };
    let mut result = Err(Failure::from(format!("{}: there is no such case", row.case)));
    let wanted = |name: &str| name.starts_with(row.case) && name[row.case.len()..].starts_with('/');
    Cases::new(&sweep).visit(&device, &wanted, &mut |cases| {
        if let Some(case) = cases.first_mut() {
            result = work(case);
        }
        Ok(())
    })?;
    result
}
