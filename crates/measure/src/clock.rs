//! How long queued work takes.

use std::time::Instant;

use arras_rns::Backend;

use crate::Result;

/// Times work on a queue. The CPU takes the monotonic clock; a device may put events around the work.
pub trait Clock<B: Backend> {
    /// Nanoseconds from the moment the queue, which is idle, is given `work` until all of it is done.
    ///
    /// # Errors
    /// Those of `work` and of the device.
    fn time(&self, backend: &B, queue: &B::Queue, work: &mut dyn FnMut() -> Result<()>) -> Result<f64>;
}

/// The host's monotonic clock; waits for the queue before it is read.
#[derive(Clone, Copy, Default, Debug)]
pub struct Monotonic;

impl<B: Backend> Clock<B> for Monotonic {
    fn time(&self, backend: &B, queue: &B::Queue, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        let start = Instant::now();
        work()?;
        backend.synchronize(queue)?;
        Ok(start.elapsed().as_nanos() as f64)
    }
}
