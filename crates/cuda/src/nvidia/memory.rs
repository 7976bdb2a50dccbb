//! A pool of device memory, page-locked memory, and the staging of uploads.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::fmt::{self, Debug};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{result, sys};

use super::context::{At, Context};
use super::{Event, Stream};
use crate::driver::{DevicePtr, Result};
use crate::error::DriverError;

/// A memory pool of this driver alone, so that its settings are nobody else's. It keeps what is freed.
#[derive(Debug)]
pub(super) struct Pool {
    raw: sys::CUmemoryPool,
    context: Arc<Context>,
}

// SAFETY: the driver's pools may be used from any thread.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    pub(super) fn new(context: Arc<Context>) -> Result<Self> {
        let mut raw = MaybeUninit::uninit();
        let properties = properties(context.device);
        // SAFETY: the properties are complete, and the pool is written before it is read.
        let raw = unsafe {
            sys::cuMemPoolCreate(raw.as_mut_ptr(), properties.as_ptr()).at("cuMemPoolCreate")?;
            raw.assume_init()
        };
        let pool = Self { raw, context };
        let mut keep = u64::MAX;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the attribute is a 64-bit integer.
        unsafe { sys::cuMemPoolSetAttribute(pool.raw, attribute, (&raw mut keep).cast()) }
            .at("cuMemPoolSetAttribute")?;
        Ok(pool)
    }

    /// Bytes that the pool holds and nobody uses.
    pub(super) fn idle(&self) -> Result<u64> {
        use sys::CUmemPool_attribute as Attribute;
        let value = |attribute| {
            let mut value = 0u64;
            // SAFETY: both attributes are 64-bit integers.
            unsafe { sys::cuMemPoolGetAttribute(self.raw, attribute, (&raw mut value).cast()) }
                .at("cuMemPoolGetAttribute")?;
            Ok::<_, DriverError>(value)
        };
        let reserved = value(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
        Ok(reserved.saturating_sub(value(Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?))
    }

    pub(super) fn allocate(&self, stream: &Stream, bytes: usize) -> Result<DevicePtr> {
        let mut pointer = 0;
        // SAFETY: pool and stream are alive.
        let code = unsafe { sys::cuMemAllocFromPoolAsync(&raw mut pointer, bytes, self.raw, stream.raw) };
        code.at("cuMemAllocFromPoolAsync").map_err(|error| sized(error, bytes))?;
        Ok(DevicePtr(pointer))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: created in `new`; what was allocated from it stays valid until it is freed.
            let _ = unsafe { sys::cuMemPoolDestroy(self.raw) };
        }
    }
}

/// Says how much there was not enough memory for.
fn sized(error: DriverError, bytes: usize) -> DriverError {
    match error {
        DriverError::OutOfMemory { place, .. } => DriverError::OutOfMemory { place, requested: bytes as u64 },
        other => other,
    }
}

fn properties(device: sys::CUdevice) -> MaybeUninit<sys::CUmemPoolProps> {
    let mut properties = MaybeUninit::<sys::CUmemPoolProps>::zeroed();
    let p = properties.as_mut_ptr();
    // SAFETY: the fields lie inside the structure. The device follows the kind of location in every version of it, which
    // later versions call a union.
    unsafe {
        (&raw mut (*p).allocType).write(sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED);
        (&raw mut (*p).handleTypes).write(sys::CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_NONE);
        (&raw mut (*p).location.type_).write(sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE);
        (&raw mut (*p).location.type_).add(1).cast::<sys::CUdevice>().write(device);
    }
    properties
}

/// Page-locked host memory.
///
/// See the example of [`Graph`](super::Graph).
pub struct Pinned {
    pointer: *mut u8,
    bytes: usize,
    context: Arc<Context>,
}

// SAFETY: plain memory that is owned.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// Zeroed memory.
    pub(super) fn new(context: &Arc<Context>, bytes: usize) -> Result<Self> {
        context.bind()?;
        // SAFETY: any size is allowed but 0; portable, so that every context of the process may copy from it.
        let pointer = unsafe { result::malloc_host(bytes.max(1), sys::CU_MEMHOSTALLOC_PORTABLE) }
            .at("cuMemHostAlloc")
            .map_err(|error| sized(error, bytes))?
            .cast::<u8>();
        // SAFETY: the memory was just allocated with at least that size.
        unsafe { pointer.write_bytes(0, bytes) };
        Ok(Self { pointer, bytes, context: context.clone() })
    }
}

impl AsRef<[u8]> for Pinned {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: initialised in `new`, and owned.
        unsafe { std::slice::from_raw_parts(self.pointer, self.bytes) }
    }
}

impl AsMut<[u8]> for Pinned {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: initialised in `new`, and owned.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.bytes) }
    }
}

impl Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({} bytes)", self.bytes)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: allocated in `new`.
            let _ = unsafe { result::free_host(self.pointer.cast::<c_void>()) };
        }
    }
}

/// Page-locked blocks through which pageable memory is uploaded, so that its owner may change it at once.
#[derive(Debug)]
pub(super) struct Staging {
    /// In the order in which they were last used.
    blocks: Mutex<VecDeque<Block>>,
}

#[derive(Debug)]
struct Block {
    memory: Pinned,
    /// Marks the last copy out of the block.
    copied: Event,
}

impl Staging {
    const BLOCK_BYTES: usize = 1 << 18;
    /// 16 MiB in flight at most.
    const MOST_BLOCKS: usize = 64;

    pub(super) fn new() -> Self {
        Self { blocks: Mutex::new(VecDeque::new()) }
    }

    /// Queues a copy to the device; returns when the source has been read.
    ///
    /// # Safety
    /// `to` names `from.len()` bytes of device memory that `stream` may write.
    pub(super) unsafe fn upload(
        &self,
        context: &Arc<Context>,
        stream: &Stream,
        to: DevicePtr,
        from: &[u8],
    ) -> Result<()> {
        let mut at = to;
        for part in from.chunks(Self::BLOCK_BYTES) {
            let mut block = self.take(context)?;
            block.memory.as_mut()[..part.len()].copy_from_slice(part);
            let source = &block.memory.as_ref()[..part.len()];
            // SAFETY: the caller vouches for the target; the block is not touched before `copied` has come to pass.
            unsafe { result::memcpy_htod_async(at.0, source, stream.raw) }.at("cuMemcpyHtoDAsync")?;
            block.copied.record(stream)?;
            self.give_back(block);
            at = at.offset(part.len());
        }
        Ok(())
    }

    /// A block whose copy is done: the longest unused one, or a new one, or the first that becomes free.
    fn take(&self, context: &Arc<Context>) -> Result<Block> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let free = blocks.front().is_some_and(|block| block.copied.has_passed());
        if let Some(block) = if free { blocks.pop_front() } else { None } {
            return Ok(block);
        }
        if blocks.len() < Self::MOST_BLOCKS {
            drop(blocks);
            let (memory, copied) = (Pinned::new(context, Self::BLOCK_BYTES)?, Event::new(context, false)?);
            return Ok(Block { memory, copied });
        }
        let block = blocks.pop_front();
        drop(blocks);
        match block {
            Some(block) => block.copied.synchronize().map(|()| block),
            None => Err(DriverError::OutOfMemory { place: "staging".into(), requested: 0 }),
        }
    }

    fn give_back(&self, block: Block) {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).push_back(block);
    }
}
