//! A journal in an embedded database: what was written when [`Journal::put`] returned is there after a crash.

use std::path::Path;

use arras_rounds::journal::taken;
use arras_rounds::{Error, Journal, Result};
use redb::{Database, ReadableDatabase, TableDefinition};

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("journal");

/// A journal in one file, used by one process at a time.
///
/// ```
/// use arras_rounds::Journal;
/// use arras_serve::Store;
///
/// # let path = std::env::temp_dir().join(format!("arras-store-{}.redb", std::process::id()));
/// let mut store = Store::open(&path)?;
/// store.put("key/0001", &[7, 7])?;
/// drop(store);
/// // Another process, later.
/// let mut store = Store::open(&path)?;
/// assert_eq!(store.get("key/0001")?, Some(vec![7, 7]));
/// assert!(store.put("key/0001", &[8, 8]).is_err());
/// # drop(store);
/// # std::fs::remove_file(&path).ok();
/// # Ok::<(), arras_rounds::Error>(())
/// ```
pub struct Store(Database);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens a file, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// [`Error::Journal`] if the file is no journal, is in use, or cannot be read or written.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| Error::Journal(format!("{}: {error}", path.display()));
        if !path.exists() {
            arras_wire::file::write_atomically(path, &[], arras_wire::file::Access::Owner)
                .map_err(|error| failed(&error))?;
        }
        let database = Database::create(path).map_err(|error| failed(&error))?;
        let transaction = database.begin_write().map_err(|error| failed(&error))?;
        transaction.open_table(TABLE).map_err(|error| failed(&error))?;
        transaction.commit().map_err(|error| failed(&error))?;
        Ok(Store(database))
    }
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::Journal(error.to_string())
}

impl Journal for Store {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let table = self.0.begin_read().map_err(broken)?.open_table(TABLE).map_err(broken)?;
        Ok(table.get(name).map_err(broken)?.map(|bytes| bytes.value().to_vec()))
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        if let Some(stored) = self.get(name)? {
            return if stored == bytes { Ok(()) } else { Err(taken(name)) };
        }
        let transaction = self.0.begin_write().map_err(broken)?;
        transaction.open_table(TABLE).map_err(broken)?.insert(name, bytes).map_err(broken)?;
        // Durable when this returns.
        transaction.commit().map_err(broken)
    }

    fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let table = self.0.begin_read().map_err(broken)?.open_table(TABLE).map_err(broken)?;
        let mut names = Vec::new();
        for entry in table.range(prefix..).map_err(broken)? {
            let (name, _) = entry.map_err(broken)?;
            if !name.value().starts_with(prefix) {
                break;
            }
            names.push(name.value().to_owned());
        }
        Ok(names)
    }
}
