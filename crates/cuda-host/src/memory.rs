//! Device memory on the host: every allocation between red zones, poisoned at birth and after death.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::{BTreeMap, VecDeque};

use crate::ffi;

/// What memory holds that nobody wrote: no residue, since it exceeds 2^60, and no finite float.
pub const POISON: u64 = 0xfff8_dead_beef_0bad;

/// Bytes of each red zone, and the alignment of allocations.
const ZONE: usize = 256;

/// Freed memory is kept for a while, so that a late access finds poison and a late write is noticed.
const QUARANTINE: usize = 64 << 20;

/// One allocation.
#[derive(Debug)]
struct Block {
    start: *mut u8,
    layout: Layout,
    bytes: usize,
}

// SAFETY: a block is memory of its own; who may touch it is decided by the lock around the arena.
unsafe impl Send for Block {}

impl Block {
    fn new(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes.checked_add(2 * ZONE + 8)? & !7, ZONE).ok()?;
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            return None;
        }
        let block = Self { start, layout, bytes };
        block.fill();
        block.forbid_zones(true);
        Some(block)
    }

    fn data(&self) -> *mut u8 {
        self.start.wrapping_add(ZONE)
    }

    fn words(&self) -> std::ops::Range<usize> {
        0..self.layout.size() / 8
    }

    /// Writes poison everywhere.
    fn fill(&self) {
        for index in self.words() {
            // SAFETY: inside the block, whose size and alignment are multiples of 8.
            unsafe { self.start.cast::<u64>().add(index).write(POISON) }
        }
    }

    fn forbid_zones(&self, forbidden: bool) {
        let behind = ZONE + self.bytes.next_multiple_of(8);
        // SAFETY: both zones belong to the block and are only looked at while they are allowed.
        unsafe {
            ffi::guard(self.start, ZONE, forbidden);
            ffi::guard(self.start.add(behind), self.layout.size() - behind, forbidden);
        }
    }

    /// Whether the red zones, or all of it, still hold poison.
    fn intact(&self, freed: bool) -> bool {
        if ffi::sanitized() {
            return true;
        }
        let data = ZONE / 8..(ZONE + self.bytes.next_multiple_of(8)) / 8;
        self.words().filter(|index| freed || !data.contains(index)).all(|index| {
            // SAFETY: inside the block, as above.
            unsafe { self.start.cast::<u64>().add(index).read() == POISON }
        })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; nobody may touch it from here on but the allocator.
        unsafe {
            ffi::guard(self.start, self.layout.size(), false);
            dealloc(self.start, self.layout);
        }
    }
}

/// All memory of one device.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    live: BTreeMap<u64, Block>,
    freed: VecDeque<Block>,
    freed_bytes: usize,
    /// Bytes that are allocated and not yet freed.
    pub(crate) used: usize,
}

impl Arena {
    /// Poisoned memory.
    pub(crate) fn allocate(&mut self, bytes: usize) -> Option<u64> {
        let block = Block::new(bytes)?;
        let address = block.data() as u64;
        self.live.insert(address, block);
        self.used += bytes;
        Some(address)
    }

    /// Poisons an allocation and puts it aside.
    pub(crate) fn free(&mut self, address: u64) -> Result<(), String> {
        let block = self.live.remove(&address).ok_or_else(|| format!("{address:#x} is not allocated"))?;
        self.used -= block.bytes;
        if !block.intact(false) {
            return Err(format!("memory beside {} bytes at {address:#x} was written", block.bytes));
        }
        block.forbid_zones(false);
        block.fill();
        // SAFETY: nobody but the arena touches freed memory.
        unsafe { ffi::guard(block.start, block.layout.size(), true) };
        self.freed_bytes += block.layout.size();
        self.freed.push_back(block);
        while self.freed_bytes > QUARANTINE {
            let Some(block) = self.freed.pop_front() else { break };
            self.freed_bytes -= block.layout.size();
            check_freed(&block)?;
        }
        Ok(())
    }

    /// Whether all red zones and all freed memory are as they were left.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.live.iter().find(|(_, block)| !block.intact(false)) {
            Some((address, block)) => {
                Err(format!("memory beside {} bytes at {address:#x} was written", block.bytes))
            }
            None => self.freed.iter().try_for_each(check_freed),
        }
    }

    /// The stretch of an allocation, if there is one that holds all of it.
    pub(crate) fn stretch(&self, address: u64, bytes: usize) -> Result<*mut u8, String> {
        let inside = self.live.range(..=address).next_back().is_some_and(|(&start, block)| {
            (address - start).checked_add(bytes as u64).is_some_and(|end| end <= block.bytes as u64)
        });
        if inside {
            Ok(address as *mut u8)
        } else {
            Err(format!("{bytes} bytes at {address:#x} are not in any allocation"))
        }
    }
}

fn check_freed(block: &Block) -> Result<(), String> {
    if block.intact(true) {
        return Ok(());
    }
    Err(format!("{} bytes at {:#x} were written after they were freed", block.bytes, block.data() as u64))
}
