//! Files read whole within a limit, and files that appear complete or not at all.
//!
//! Every error names the file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::{Error, InFile, Result};

/// Who may read a file that is written.
///
/// ```
/// use arras_wire::file::{Access, read_bounded, write_atomically};
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("secret.key");
/// write_atomically(&path, b"secret", Access::Owner)?;
/// assert_eq!(read_bounded(&path, 6)?, b"secret");
/// # #[cfg(unix)]
/// # {
/// use std::os::unix::fs::PermissionsExt;
/// assert_eq!(path.metadata()?.permissions().mode() & 0o777, 0o600);
/// # }
/// // A longer file than is allowed is not read.
/// assert!(read_bounded(&path, 5).unwrap_err().to_string().ends_with("longer than the limit of 5 bytes"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever the process's umask lets.
    Shared,
    /// Its owner only: mode 0600 from the moment it exists. Unix only; elsewhere as `Shared`, where the
    /// folder's access list decides.
    Owner,
}

/// The bytes of a file of at most `max_bytes` bytes.
///
/// # Errors
/// A file that cannot be read, or that is longer: it is not read further than the limit.
pub fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let read = || -> Result<Vec<u8>> {
        let file = File::open(path).map_err(io_error("open"))?;
        let found = file.metadata().map_err(io_error("read"))?;
        let stated = if found.is_file() { found.len() } else { 0 };
        if stated > max_bytes {
            return Err(Error::FileLimit { limit: max_bytes });
        }
        // One byte of room beyond the length lets the end be seen without growing, which for a secret
        // would leave a copy behind. Pipes and files that grow are still held to the limit.
        let room = usize::try_from(stated).ok().and_then(|len| len.checked_add(1));
        let mut bytes = Vec::with_capacity(room.ok_or(Error::FileLimit { limit: max_bytes })?);
        file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(io_error("read"))?;
        if bytes.len() as u64 > max_bytes {
            return Err(Error::FileLimit { limit: max_bytes });
        }
        Ok(bytes)
    };
    read().in_file(path)
}

/// Writes a file so that its readers see the old content or the new, never a part.
///
/// The bytes go to a new file in the same folder, are flushed to the disk, and the file is renamed. On
/// any failure the new file is removed and the old one is as it was.
///
/// # Errors
/// The path names something that is not a regular file, or the system refuses.
pub fn write_atomically(path: &Path, bytes: &[u8], access: Access) -> Result<()> {
    let write = || -> Result<()> {
        let folder = place(path)?;
        let (mut file, temporary) = create_temporary(folder, access).map_err(io_error("create"))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error("write"))?;
        drop(file);
        fs::rename(&temporary.path, path).map_err(io_error("rename into place"))?;
        temporary.keep();
        // The file is in place; that its name survives a power cut is beyond what every system offers.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
        Ok(())
    };
    write().in_file(path)
}

/// Whether [`write_atomically`] could write this file now: to know before long work, not after it.
///
/// # Errors
/// Those of [`write_atomically`]. Nothing is left behind either way.
pub fn check_writable(path: &Path) -> Result<()> {
    let check =
        || place(path).and_then(|folder| create_temporary(folder, Access::Owner).map_err(io_error("create")));
    check().map(drop).in_file(path)
}

/// The folder of a file that may be made or replaced.
fn place(path: &Path) -> Result<&Path> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(Error::NotAFile);
    }
    Ok(match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    })
}

/// Creates a folder, and those above it, that only its owner may enter (mode 0700, Unix only).
///
/// A folder that exists is left as it is: files in it that are secret must say so themselves
/// ([`Access::Owner`]).
///
/// # Errors
/// The path names something else, or the system refuses.
pub fn create_private_dir(path: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(io_error("create folder")).in_file(path)
}

/// Removes its file when dropped, unless told to keep it.
struct Temporary {
    path: PathBuf,
    kept: bool,
}

impl Temporary {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing more can be done about a file that cannot be removed; the cause is on its way.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A new file under a name that nobody else holds: `create_new` is exclusive, also between processes.
fn create_temporary(folder: &Path, access: Access) -> io::Result<(File, Temporary)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if access == Access::Owner {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = access;
    let process = std::process::id();
    for attempt in 0..1000 {
        let path = folder.join(format!(".arras-{process}-{attempt}.tmp"));
        match options.open(&path) {
            Ok(file) => return Ok((file, Temporary { path, kept: false })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn io_error(action: &'static str) -> impl Fn(io::Error) -> Error {
    move |cause| Error::Io { action, cause }
}
