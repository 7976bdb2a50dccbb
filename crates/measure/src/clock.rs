//! How long queued work takes.

use std::time::Instant;

use arras_rns::Backend;

use crate::Result;

/// Times work on a queue. The CPU takes the monotonic clock; a device may put events around the work.
///
/// ```
/// use arras_cpu::Cpu;
/// use arras_measure::clock::{Clock, Monotonic};
/// use arras_rns::Backend;
///
/// let cpu = Cpu::sequential();
/// let (queue, mut sum) = (cpu.queue()?, 0_u64);
/// let taken = Monotonic.time(&cpu, &queue, &mut || {
///     sum = (0..10_000).fold(sum, |sum, x| std::hint::black_box(sum + x));
///     Ok(())
/// })?;
/// assert!(sum >= 49_995_000 && taken > 0.0);
/// # Ok::<(), arras_measure::Error>(())
/// ```
pub trait Clock<B: Backend> {
    /// Nanoseconds from the moment the queue, which is idle, is given `work` until all of it is done.
    ///
    /// # Errors
    /// Those of `work` and of the device.
    fn time(&self, backend: &B, queue: &B::Queue, work: &mut dyn FnMut() -> Result<()>) -> Result<f64>;
}

/// The host's monotonic clock; waits for the queue before it is read. Time during which the calling thread could have worked, but
/// others had its core, is not the work's: where the system tells of it, short work is timed again, and what long work waited
/// is taken off.
/// See the example of [`Clock`].
#[derive(Clone, Copy, Default, Debug)]
pub struct Monotonic;

/// Work that takes longer is not repeated for having waited.
const LONG_NS: f64 = 2e6;
/// How often shorter work is timed before its waiting is taken off.
const ATTEMPTS: usize = 4;

/// Nanoseconds that the calling thread has waited for a core since it began (Linux, with scheduler statistics), else 0.
fn waited() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or(0)
}

impl<B: Backend> Clock<B> for Monotonic {
    fn time(&self, backend: &B, queue: &B::Queue, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let before = waited();
            let start = Instant::now();
            work()?;
            backend.synchronize(queue)?;
            let all = start.elapsed().as_nanos() as f64;
            let waited = waited().saturating_sub(before) as f64;
            if waited == 0.0 || all > LONG_NS || attempts == ATTEMPTS {
                // Waiting just outside the interval counts too: it must not leave nothing.
                return Ok((all - waited).max(all / 100.0));
            }
        }
    }
}
