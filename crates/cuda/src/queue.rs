//! Streams, events, and what is wrong in the data that kernels were given.

use std::sync::{Arc, Mutex};

use arras_rns::{Error, Quantise, Result, Storage};

use crate::memory::{Buffer, Line, lock};
use crate::{Driver, DriverError};

/// A stream, and the checks of data that are under way in it.
///
/// ```
/// use arras_cuda::counting::CountingDriver;
/// use arras_cuda::{Cuda, Driver};
/// use arras_rns::Backend;
///
/// # let cuda = Cuda::counting(CountingDriver::h200())?;
/// // One queue on a stream of its own, one on the caller's.
/// let first = cuda.queue()?;
/// let second = cuda.queue_on(cuda.driver().stream()?);
/// // What the second is given from here on waits for what the first was given so far.
/// let event = cuda.record(&first)?;
/// cuda.wait(&second, &event)?;
/// cuda.synchronize(&second)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Queue<D: Driver> {
    pub(crate) line: Arc<Line<D>>,
    checks: Mutex<Vec<Check<D>>>,
}

/// A point in a queue.
///
/// See the example of [`Queue`].
#[derive(Debug)]
pub struct Event<D: Driver> {
    pub(crate) event: D::Event,
}

/// A kernel looks at its data while it works, and notes the first place where it is wrong.
#[derive(Debug)]
pub(crate) struct Check<D: Driver> {
    place: Buffer<D>,
    what: Checked,
}

/// What is looked at.
#[derive(Debug)]
pub(crate) enum Checked {
    /// Places are `polynomial * count + coefficient`.
    Quantise(Quantise),
    /// Places are `(row * limbs + limb number) << 32 + position in the row`.
    Unpack {
        /// The moduli, in order of limb.
        moduli: Vec<u64>,
        /// Values in a row.
        values: usize,
    },
}

/// As many checks may be under way before a call waits for them.
const CHECKS: usize = 64;

impl<D: Driver> Queue<D> {
    pub(crate) fn new(driver: Arc<D>, stream: D::Stream) -> Self {
        Self { line: Arc::new(Line { driver, stream }), checks: Mutex::default() }
    }

    /// The stream, for work of the caller's own.
    pub fn stream(&self) -> &D::Stream {
        &self.line.stream
    }

    /// Room for the place of something wrong, which holds `u64::MAX` for now.
    pub(crate) fn check(&self, what: Checked, operation: &'static str) -> Result<Check<D>> {
        if lock(&self.checks).len() >= CHECKS {
            self.settle()?;
        }
        let place = Buffer::allocate(&self.line, 1, operation)?;
        let Line { driver, stream } = &*self.line;
        // SAFETY: just allocated on this stream.
        let filled = unsafe { driver.fill(stream, place.ptr(), 0xff, 8) };
        filled.map_err(|error| error.during(operation))?;
        Ok(Check { place, what })
    }

    /// Keeps a check until somebody waits for the queue.
    pub(crate) fn keep(&self, check: Check<D>) {
        lock(&self.checks).push(check);
    }

    /// Waits for the checks under way and reports the first that found something.
    pub(crate) fn settle(&self) -> Result<()> {
        let checks = std::mem::take(&mut *lock(&self.checks));
        let mut first = Ok(());
        for check in checks {
            let mut place = [0u64];
            let Line { driver, stream } = &*self.line;
            // SAFETY: the buffer was allocated on this stream and has one word.
            let read =
                unsafe { driver.download(stream, bytemuck::cast_slice_mut(&mut place), check.place.ptr()) };
            let found = match (read, place) {
                (Err(error), _) => Err(error.during("synchronize")),
                (Ok(()), [u64::MAX]) => Ok(()),
                (Ok(()), [place]) => Err(check.what.error(place)),
            };
            first = first.and(found);
        }
        first
    }

    /// Waits for everything.
    pub(crate) fn synchronize(&self) -> Result<()> {
        let done = self.line.driver.synchronize(&self.line.stream);
        done.map_err(|error: DriverError| error.during("synchronize"))?;
        self.settle()
    }
}

impl<D: Driver> Check<D> {
    pub(crate) fn place(&self) -> crate::DevicePtr {
        debug_assert_eq!(self.place.words(), 1);
        self.place.ptr()
    }
}

impl Checked {
    fn error(&self, place: u64) -> Error {
        match self {
            Self::Quantise(how) => {
                let (b, i) = (place as usize / how.count.max(1), place as usize % how.count.max(1));
                Error::Value {
                    operation: "quantise",
                    what: "value",
                    index: how.first + b * how.batch_stride + i * how.coefficient_stride,
                    detail: format!("not finite, or at least 2^62 when multiplied by 2^{}", how.scale_bits),
                }
            }
            Self::Unpack { moduli, values } => {
                let (line, index) = ((place >> 32) as usize, place as u32 as usize);
                let (row, limb) = (line / moduli.len().max(1), line % moduli.len().max(1));
                let modulus = moduli.get(limb).copied().unwrap_or_default();
                let (what, detail) = match index < *values {
                    true => ("residue", format!("row {row}: not below {modulus}")),
                    false => ("padding", format!("row {row}: not zero")),
                };
                Error::Value { operation: "unpack", what, index, detail }
            }
        }
    }
}
