//! Where the CPU does its work: the calling thread, or a pool of threads that the queue owns or borrows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arras_rns::{Error, Result};
use rayon::ThreadPool;

/// Work on this queue is done when a call returns.
///
/// ```
/// use std::sync::Arc;
///
/// use arras_cpu::{Cpu, Queue};
///
/// // The threads of the caller do the work.
/// let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
/// let queue = Queue::with_pool(Arc::new(pool));
/// assert_eq!(Cpu::on(queue).threads(), 2);
/// # Ok::<(), rayon::ThreadPoolBuildError>(())
/// ```
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

    /// Runs `work` for every item, in parallel if that pays; an error ends it.
    pub(crate) fn for_each<T: Send>(
        &self,
        items: Vec<T>,
        words: usize,
        work: impl Fn(T) -> Result<()> + Send + Sync,
    ) -> Result<()> {
        self.for_each_with(vec![(); self.threads()], items, words, |(), item| work(item))
    }

    /// The same with a state for each thread that takes part, at most as many as there are states.
    ///
    /// The calling thread takes items like the others, so that none waits for a sleeping one to wake up.
    pub(crate) fn for_each_with<S: Send, T: Send>(
        &self,
        states: Vec<S>,
        items: Vec<T>,
        words: usize,
        work: impl Fn(&mut S, T) -> Result<()> + Send + Sync,
    ) -> Result<()> {
        let worthwhile = words >= WORDS_WORTH_SPREADING;
        let pool = self.pool.as_ref().filter(|_| worthwhile && items.len() > 1 && states.len() > 1);
        let helpers = self.threads().min(items.len()).saturating_sub(1);
        let (items, failure) = (Mutex::new(items.into_iter()), Mutex::new(None));
        let take = || lock(&items).next();
        let run = |mut state: S| {
            while let Some(item) = take() {
                if let Err(error) = work(&mut state, item) {
                    lock(&items).by_ref().for_each(drop);
                    lock(&failure).get_or_insert(error);
                }
            }
        };
        let mut states = states.into_iter();
        let own = states.next();
        match (pool, own) {
            (Some(pool), Some(own)) => pool.in_place_scope(|scope| {
                for state in states.take(helpers) {
                    scope.spawn(|_| run(state));
                }
                run(own);
            }),
            (None, Some(own)) => run(own),
            (_, None) => return Err(Error::shape("for_each", "number of states", 0, 1)),
        }
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
