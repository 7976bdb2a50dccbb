//! Contexts, streams and memory of the crate `cust`, without copies. Both sides use the primary context of a device.
//!
//! | theirs | ours |
//! |---|---|
//! | `cust::context::Context` | [`open`]: a driver on the same context |
//! | `cust::stream::Stream` | [`queue`]: a queue on it |
//! | `cust::memory::DeviceBuffer<u64>` | [`adopt`]: words of a buffer |
//! | `cust::memory::DeviceSlice<u64>` | [`lend`]: words of ours |
//!
//! `cust` links to libcuda: unlike the rest, a program with the feature `cust` starts on machines with a driver only, unless it is linked
//! to the stand-in of `scripts/cuda-link-stubs`.

use std::sync::Arc;

use arras_rns::{Error, Result, Storage};
use cust::context::Context;
use cust::memory::{DeviceBuffer, DevicePointer, DeviceSlice};
use cust::stream::Stream;

use crate::memory::Buffer;
use crate::queue::Queue;
use crate::{Cuda, DevicePtr, DriverError, NvidiaDriver, driver};

/// A driver on the context that `cust` has of device number `ordinal`.
///
/// # Errors
/// As of [`NvidiaDriver::open`]; [`DriverError::Failed`] if the context is not that device's primary one.
pub fn open(context: &Context, ordinal: usize) -> driver::Result<NvidiaDriver> {
    let opened = NvidiaDriver::open(ordinal)?;
    if !std::ptr::eq(opened.raw_context().cast::<()>(), context.as_raw().cast::<()>()) {
        return Err(DriverError::Failed {
            place: "cust".into(),
            code: 0,
            message: format!("the context is not the primary one of cuda:{ordinal}"),
        });
    }
    Ok(opened)
}

/// A queue on a stream of `cust`, which it keeps. The stream was made in the context of `cuda`.
pub fn queue(cuda: &Cuda<NvidiaDriver>, stream: Arc<Stream>) -> Queue<NvidiaDriver> {
    let raw = stream.as_inner().cast();
    // SAFETY: the stream lives as long as its owner.
    cuda.queue_on(unsafe { cuda.driver().foreign_stream(raw, stream) })
}

/// The words of a buffer of `cust`, which are given back to the driver when the last queue that used them is done.
///
/// Earlier work on the buffer is ordered before that of `queue` by the caller: it was queued on the same stream, or has been waited for.
/// Otherwise the words are anything.
pub fn adopt(queue: &Queue<NvidiaDriver>, words: DeviceBuffer<u64>) -> Buffer<NvidiaDriver> {
    let (ptr, count) = (DevicePtr(words.as_device_ptr().as_raw()), words.len());
    // SAFETY: the buffer owns that many words. A race with earlier work gives wrong words and no wrong addresses.
    unsafe { Buffer::foreign(&queue.line, ptr, count, Owned(words)) }
}

/// The words of a buffer as `cust` knows them, for work that is queued on the stream of `queue`.
///
/// # Errors
/// A buffer without words.
///
/// # Safety
/// The slice, which can be copied, is not used after the buffer was dropped, and only by work of the stream of `queue` or ordered with it.
pub unsafe fn lend(queue: &Queue<NvidiaDriver>, buffer: &Buffer<NvidiaDriver>) -> Result<DeviceSlice<u64>> {
    if buffer.words() == 0 {
        return Err(Error::shape("lend", "number of words", 0, 1..));
    }
    let pointer = DevicePointer::from_raw(buffer.used_by(&queue.line).0);
    // SAFETY: the buffer has that many words; how long they are used is the caller's.
    Ok(unsafe { DeviceSlice::from_raw_parts(pointer, buffer.words()) })
}

/// A buffer that is only kept, and dropped where the context is current: whoever drops it has just waited for a stream.
struct Owned(#[allow(dead_code, reason = "kept to be dropped")] DeviceBuffer<u64>);

// SAFETY: device memory belongs to a context, not to a thread.
unsafe impl Send for Owned {}
// SAFETY: nothing can be reached through a reference.
unsafe impl Sync for Owned {}
