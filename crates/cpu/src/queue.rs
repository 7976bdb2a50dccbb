//! Where the CPU does its work: the calling thread, or a pool of threads that the queue owns or borrows.

use std::sync::Arc;

use arras_rns::{Error, Result};
use rayon::ThreadPool;
use rayon::prelude::*;

/// Work on this queue is done when a call returns.
#[derive(Clone, Debug)]
pub struct Queue {
    pool: Option<Arc<ThreadPool>>,
}

/// Below this many words of output a call stays on one thread: waking others costs a few microseconds.
const WORDS_WORTH_SPREADING: usize = 1 << 14;

impl Queue {
    /// A queue that does everything on the calling thread.
    pub fn sequential() -> Self {
        Self { pool: None }
    }

    /// A queue with `threads` threads of its own; 0 takes one per core, 1 stays on the calling thread.
    ///
    /// # Errors
    /// [`Error::Device`] if the operating system refuses the threads.
    pub fn with_threads(threads: usize) -> Result<Self> {
        if threads == 1 {
            return Ok(Self::sequential());
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("arras-cpu-{i}"))
            .build()
            .map_err(|error| Error::Device {
                place: "starting threads".into(),
                message: error.to_string(),
            })?;
        Ok(if pool.current_num_threads() == 1 { Self::sequential() } else { Self::with_pool(Arc::new(pool)) })
    }

    /// A queue that spreads its work over a pool, which may be the caller's own.
    pub fn with_pool(pool: Arc<ThreadPool>) -> Self {
        Self { pool: Some(pool) }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    /// Runs `work` for every item, in parallel if that pays; the first error wins.
    pub(crate) fn for_each<T: Send>(
        &self,
        items: Vec<T>,
        words: usize,
        work: impl Fn(T) -> Result<()> + Send + Sync,
    ) -> Result<()> {
        match &self.pool {
            Some(pool)
                if items.len() > 1 && words >= WORDS_WORTH_SPREADING && pool.current_num_threads() > 1 =>
            {
                pool.install(|| items.into_par_iter().try_for_each(work))
            }
            _ => items.into_iter().try_for_each(work),
        }
    }
}
