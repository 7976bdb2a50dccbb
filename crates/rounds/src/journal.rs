//! Storage that is written before anything is sent.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// A store of named bytes, each written once. When [`put`](Self::put) returns, the bytes survive a crash.
///
/// ```
/// use arras_rounds::journal::{Journal, MemoryJournal};
///
/// let mut journal = MemoryJournal::default();
/// let drawn = journal.once("key/0001", || Ok(vec![7, 7]))?;
/// // A restart draws nothing anew.
/// assert_eq!(journal.once("key/0001", || Ok(vec![8, 8]))?, drawn);
/// assert!(journal.put("key/0001", &[8, 8]).is_err());
/// assert_eq!(journal.names("key/")?, ["key/0001"]);
/// # Ok::<(), arras_rounds::Error>(())
/// ```
pub trait Journal {
    /// The bytes of a name.
    ///
    /// # Errors
    /// [`Error::Journal`] if the store cannot be read.
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Writes bytes under a new name; all of them or, after a crash, none.
    ///
    /// # Errors
    /// [`Error::Journal`] if the name is taken by other bytes, or the store cannot be written.
    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<()>;

    /// All names with a prefix, in ascending order.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn names(&self, prefix: &str) -> Result<Vec<String>>;

    /// What is stored under a name; if nothing is, the result of `make`, stored before it is returned. Whatever was drawn at
    /// random is thereby drawn once.
    ///
    /// # Errors
    /// Those of `make`, and of the store.
    fn once(&mut self, name: &str, make: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>>
    where
        Self: Sized,
    {
        if let Some(bytes) = self.get(name)? {
            return Ok(bytes);
        }
        let bytes = make()?;
        self.put(name, &bytes)?;
        Ok(bytes)
    }
}

/// A journal in memory, for simulations and tests.
/// See the example of [`Journal`].
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal(BTreeMap<String, Vec<u8>>);

impl Journal for MemoryJournal {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(name).cloned())
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        match self.0.get(name) {
            Some(stored) if stored != bytes => Err(taken(name)),
            Some(_) => Ok(()),
            None => {
                self.0.insert(name.to_owned(), bytes.to_vec());
                Ok(())
            }
        }
    }

    fn names(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self
            .0
            .range(prefix.to_owned()..)
            .map(|(name, _)| name.clone())
            .take_while(|name| name.starts_with(prefix))
            .collect())
    }
}

/// The error of a name that other bytes have.
pub fn taken(name: &str) -> Error {
    Error::Journal(format!("{name} is written already, with other bytes"))
}
