//! Times of repeated work.

use std::time::Instant;

use crate::Failure;

/// Nanoseconds that a series takes at least.
const SERIES_NS: f64 = 40_000.0;
/// Series in a measurement; the shortest counts, being the least disturbed.
const SERIES: usize = 3;
/// Series longer than this are measured once. Any other is measured with what it needs in the caches as far as it fits there,
/// like the peers whose figures are the targets: a first execution finds there what was timed before it.
const LONG_NS: f64 = 1e8;

/// Work with the number of executions that make a series.
pub struct Timed<'a> {
    work: Box<dyn FnMut() -> Result<(), Failure> + 'a>,
    executions: u32,
    series: usize,
}

impl<'a> Timed<'a> {
    /// Warms up and finds how often the work has to be executed, at least `executions` times.
    pub fn new(mut work: impl FnMut() -> Result<(), Failure> + 'a, executions: u32) -> Result<Self, Failure> {
        work()?;
        let start = Instant::now();
        work()?;
        let once = start.elapsed().as_nanos().max(1) as f64;
        let needed = (SERIES_NS / once).ceil() as u32;
        let executions = executions.max(needed).max(1);
        let series = if once * f64::from(executions) > LONG_NS { 1 } else { SERIES };
        Ok(Self { work: Box::new(work), executions, series })
    }

    /// Nanoseconds per execution.
    pub fn measure(&mut self) -> Result<f64, Failure> {
        let mut shortest = f64::INFINITY;
        for _ in 0..self.series {
            let start = Instant::now();
            for _ in 0..self.executions {
                (self.work)()?;
            }
            shortest = shortest.min(start.elapsed().as_nanos() as f64 / f64::from(self.executions));
        }
        Ok(shortest.max(f64::MIN_POSITIVE))
    }
}
