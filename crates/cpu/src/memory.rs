//! Words on cache-line boundaries, and released ones kept for the next who asks.

use std::collections::BTreeMap;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, PoisonError};

use arras_rns::backend::Storage;
use bytemuck::{Pod, Zeroable};

/// One cache line, which is also one AVX-512 register.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u64; 8]);

/// A stretch of host memory, aligned to 64 bytes.
///
/// ```
/// use arras_cpu::memory::Buffer;
///
/// let mut buffer = Buffer::new(100).ok_or("no memory")?;
/// assert_eq!(buffer.as_slice(), [0; 100]);
/// assert!(buffer.as_mut_slice().as_ptr().addr().is_multiple_of(64));
/// // Its contents may be secret, and are not shown.
/// assert_eq!(format!("{buffer:?}"), "Buffer(100 words)");
/// # Ok::<(), &str>(())
/// ```
pub struct Buffer {
    lines: Vec<Line>,
    words: usize,
    /// Where the memory goes when the buffer is dropped, if not to the system.
    home: Option<Arc<Pool>>,
}

/// So many zeroed lines, or `None` if there is not that much memory.
fn zeros(count: usize) -> Option<Vec<Line>> {
    let mut lines = Vec::new();
    lines.try_reserve_exact(count).ok()?;
    ask_for_huge_pages(lines.spare_capacity_mut());
    lines.resize(count, Line([0; 8]));
    Some(lines)
}

/// Asks the system for pages of 2 MiB where memory covers whole ones. A key or the tables of a ring take thousands of
/// ordinary pages, more than a processor remembers the addresses of.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages(memory: &mut [MaybeUninit<Line>]) {
    const PAGE: usize = 2 << 20;
    let bytes = memory.as_mut_ptr_range();
    let first = bytes.start.addr().next_multiple_of(PAGE);
    let pages = bytes.end.addr().saturating_sub(first) / PAGE;
    if pages > 0 {
        let start = bytes.start.with_addr(first).cast();
        // SAFETY: the pages lie within the memory. The advice changes nothing that a program could see, and may be ignored.
        unsafe { libc::madvise(start, pages * PAGE, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_: &mut [MaybeUninit<Line>]) {}

impl Buffer {
    /// `words` zeros, or `None` if there is not that much memory.
    pub fn new(words: usize) -> Option<Self> {
        Some(Self { lines: zeros(words.div_ceil(8))?, words, home: None })
    }

    /// The words.
    pub fn as_slice(&self) -> &[u64] {
        &bytemuck::cast_slice(&self.lines)[..self.words]
    }

    /// The words, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u64] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.words]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.give(std::mem::take(&mut self.lines));
        }
    }
}

impl Storage for Buffer {
    fn words(&self) -> usize {
        self.words
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The contents may be secret.
        write!(f, "Buffer({} words)", self.words)
    }
}

/// Memory of dropped buffers, for later ones of the same size. Fresh memory costs a page fault for every page and a pass
/// of zeros, which is more than most operations on it.
///
/// What is in use and what is kept never exceed, together, the most that has been in use at once: when other sizes are
/// asked for, what is kept goes back to the system.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Shelves>);

/// Sizes are in lines.
#[derive(Default)]
struct Shelves {
    kept: BTreeMap<usize, Vec<Vec<Line>>>,
    in_use: usize,
    in_shelves: usize,
    most_in_use: usize,
}

impl Pool {
    /// `words` words with unspecified contents, or `None` if there is not that much memory.
    pub(crate) fn take(self: &Arc<Self>, words: usize) -> Option<Buffer> {
        let count = words.div_ceil(8);
        let kept = self.shelves(|shelves| shelves.take(count));
        let lines = match kept.or_else(|| zeros(count)) {
            Some(lines) => lines,
            None => {
                // Memory that is kept for other sizes may be what is missing.
                self.shelves(Shelves::clear);
                let lines = zeros(count);
                if lines.is_none() {
                    self.shelves(|shelves| shelves.in_use -= count);
                }
                lines?
            }
        };
        Some(Buffer { lines, words, home: Some(self.clone()) })
    }

    fn give(&self, lines: Vec<Line>) {
        self.shelves(|shelves| {
            shelves.in_use -= lines.len();
            shelves.in_shelves += lines.len();
            shelves.kept.entry(lines.len()).or_default().push(lines);
        });
    }

    fn shelves<T>(&self, f: impl FnOnce(&mut Shelves) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shelves {
    /// Counts `count` lines as used, and gives them if it has them.
    fn take(&mut self, count: usize) -> Option<Vec<Line>> {
        self.in_use += count;
        if let Some(lines) = self.kept.get_mut(&count).and_then(Vec::pop) {
            self.in_shelves -= count;
            return Some(lines);
        }
        self.most_in_use = self.most_in_use.max(self.in_use);
        while self.in_use + self.in_shelves > self.most_in_use {
            let Some(mut largest) = self.kept.last_entry() else { break };
            match largest.get_mut().pop() {
                Some(lines) => self.in_shelves -= lines.len(),
                None => drop(largest.remove()),
            }
        }
        None
    }

    fn clear(&mut self) {
        self.kept.clear();
        self.in_shelves = 0;
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shelves(|shelves| {
            write!(f, "Pool({} lines in use, {} kept)", shelves.in_use, shelves.in_shelves)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arras_rns::backend::Storage;

    use super::Pool;

    fn state(pool: &Pool) -> (usize, usize, usize) {
        pool.shelves(|shelves| {
            let kept = shelves.kept.values().flatten().map(Vec::len).sum::<usize>();
            assert_eq!(kept, shelves.in_shelves);
            (shelves.in_use, kept, shelves.most_in_use)
        })
    }

    #[test]
    fn released_memory_is_used_again() {
        let pool = Arc::new(Pool::default());
        let mut first = pool.take(100).unwrap();
        first.as_mut_slice().fill(7);
        let place = first.as_slice().as_ptr();
        assert_eq!((first.words(), state(&pool)), (100, (13, 0, 13)));
        drop(first);
        assert_eq!(state(&pool), (0, 13, 13));
        // The same number of lines, although not of words.
        let again = pool.take(97).unwrap();
        assert_eq!((again.as_slice().as_ptr(), again.words()), (place, 97));
        assert_eq!(state(&pool), (13, 0, 13));
    }

    #[test]
    fn no_more_is_held_than_was_once_in_use() {
        let pool = Arc::new(Pool::default());
        let (a, b) = (pool.take(800).unwrap(), pool.take(160).unwrap());
        drop((a, b));
        assert_eq!(state(&pool), (0, 120, 120));
        // Another size: the largest of what is kept makes room.
        let c = pool.take(400).unwrap();
        assert_eq!(state(&pool), (50, 20, 120));
        let d = pool.take(8 * 90).unwrap();
        assert_eq!(state(&pool), (140, 0, 140));
        drop((c, d));
        assert!(pool.take(usize::MAX / 16).is_none());
        assert_eq!(state(&pool).0, 0);
    }

    #[test]
    fn buffers_outlive_the_backend() {
        let pool = Arc::new(Pool::default());
        let buffer = pool.take(8).unwrap();
        drop(pool);
        assert_eq!(buffer.as_slice().len(), 8);
    }
}
