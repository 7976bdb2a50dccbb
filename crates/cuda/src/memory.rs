//! Device memory with an owner.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arras_rns::{Error, Result, Storage};
use smallvec::SmallVec;

use crate::{DevicePtr, Driver};

/// A stream of a driver.
#[derive(Debug)]
pub(crate) struct Line<D: Driver> {
    pub(crate) driver: Arc<D>,
    pub(crate) stream: D::Stream,
}

/// Words on a device. They are released when every queue that used them has come that far.
///
/// ```
/// use arras_cuda::Cuda;
/// use arras_cuda::counting::CountingDriver;
/// use arras_rns::{Backend, Storage};
///
/// # let cuda = Cuda::counting(CountingDriver::h200())?;
/// let queue = cuda.queue()?;
/// let mut buffer = cuda.allocate(&queue, 4)?;
/// cuda.write(&queue, &mut buffer, 1, &[7, 8, 9])?;
/// let mut words = [0; 2];
/// cuda.read(&queue, &buffer, 2, &mut words)?;
/// assert_eq!((buffer.words(), words), (4, [8, 9]));
/// assert!(cuda.write(&queue, &mut buffer, 3, &[1, 2]).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Buffer<D: Driver> {
    ptr: DevicePtr,
    words: usize,
    /// Where the memory comes from and goes back to.
    home: Arc<Line<D>>,
    /// What else used it.
    guests: Mutex<SmallVec<[Arc<Line<D>>; 1]>>,
    /// Whose memory it is, if not of this backend.
    owner: Option<Box<dyn Any + Send + Sync>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Driver> Buffer<D> {
    pub(crate) fn allocate(line: &Arc<Line<D>>, words: usize, operation: &'static str) -> Result<Self> {
        let too_large = || Error::shape(operation, "number of words", words, 0..usize::MAX / 8);
        let bytes = words.checked_mul(8).ok_or_else(too_large)?;
        let ptr = match bytes {
            0 => DevicePtr::NULL,
            _ => line.driver.allocate(&line.stream, bytes).map_err(|error| error.during(operation))?,
        };
        Ok(Self { ptr, words, home: line.clone(), guests: Mutex::default(), owner: None })
    }

    /// Someone else's memory, which is given back to them, by dropping `owner`, when every queue that used it has come that far.
    ///
    /// # Safety
    /// `words` words at `ptr` belong to `owner` and can be reached by this device.
    #[cfg(feature = "rust-cuda")]
    pub(crate) unsafe fn foreign(
        line: &Arc<Line<D>>,
        ptr: DevicePtr,
        words: usize,
        owner: impl Any + Send + Sync,
    ) -> Self {
        Self { ptr, words, home: line.clone(), guests: Mutex::default(), owner: Some(Box::new(owner)) }
    }

    /// A new buffer that holds `bytes`, and `spare` bytes behind them.
    pub(crate) fn holding(
        line: &Arc<Line<D>>,
        bytes: &[u8],
        spare: usize,
        operation: &'static str,
    ) -> Result<Self> {
        let buffer = Self::allocate(line, (bytes.len() + spare).div_ceil(8), operation)?;
        if !bytes.is_empty() {
            // SAFETY: just allocated on this stream, and large enough.
            let uploaded = unsafe { line.driver.upload(&line.stream, buffer.ptr, bytes) };
            uploaded.map_err(|error| error.during(operation))?;
        }
        Ok(buffer)
    }

    /// Notes that a stream uses the memory, and gives its address.
    pub(crate) fn used_by(&self, line: &Arc<Line<D>>) -> DevicePtr {
        if !Arc::ptr_eq(line, &self.home) {
            let mut guests = lock(&self.guests);
            if !guests.iter().any(|guest| Arc::ptr_eq(guest, line)) {
                guests.push(line.clone());
            }
        }
        self.ptr
    }

    /// The address, for work that the caller orders himself.
    pub fn ptr(&self) -> DevicePtr {
        self.ptr
    }

    /// The address of word `offset`, if the `count` words from there on are in the buffer.
    pub(crate) fn stretch(&self, offset: usize, count: usize) -> Option<DevicePtr> {
        let inside = offset.checked_add(count).is_some_and(|end| end <= self.words);
        inside.then(|| self.ptr.offset(8 * offset))
    }
}

impl<D: Driver> Storage for Buffer<D> {
    fn words(&self) -> usize {
        self.words
    }
}

impl<D: Driver> fmt::Debug for Buffer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} words on the device)", self.words)
    }
}

impl<D: Driver> Drop for Buffer<D> {
    fn drop(&mut self) {
        if self.ptr == DevicePtr::NULL {
            return;
        }
        let Line { driver, stream } = &*self.home;
        let guests = std::mem::take(&mut *lock(&self.guests));
        let ordered = guests.iter().try_for_each(|guest| {
            let event = driver.event(false)?;
            driver.record(&guest.stream, &event)?;
            driver.wait(stream, &event)
        });
        // Memory that cannot be ordered is not given back: the device is beyond repair then.
        if let Some(owner) = self.owner.take() {
            match ordered.and_then(|()| driver.synchronize(stream)) {
                Ok(()) => drop(owner),
                Err(_) => std::mem::forget(owner),
            }
        } else if ordered.is_ok() {
            // SAFETY: allocated on this stream, which waits for all others that used it; nothing else has the address.
            let _ = unsafe { driver.free(stream, self.ptr) };
        }
    }
}
