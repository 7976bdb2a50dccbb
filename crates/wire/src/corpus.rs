//! Drives a decoder with mutations of a committed corpus, for a bounded time, on any toolchain.
//!
//! Every crate that decodes bytes has a `fuzz_one(&[u8])` and a folder of small inputs; one test
//! calls [`drive`] with both. Coverage-guided fuzzing of the same functions lives in `fuzz/`.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use crate::frame::{CHECK_LEN, HEADER_LEN, MAGIC};
use crate::xxh64::xxh64;

/// Mutants stay below this length, so that a run makes many of them.
const MAX_MUTANT: usize = 1 << 16;

/// What a run without failure did.
///
/// ```
/// use std::time::Duration;
///
/// use arras_wire::corpus::drive;
///
/// # let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("empty.bin"), b"")?;
/// // No time for mutants: the entries alone.
/// let report = drive(folder.path(), 1, Duration::ZERO, |bytes| assert!(bytes.is_empty()))?;
/// assert_eq!((report.entries, report.runs), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Files in the corpus.
    pub entries: usize,
    /// Calls of the target: every entry as it is, then mutants.
    pub runs: u64,
}

/// Why a run ended early.
///
/// ```
/// use std::time::Duration;
///
/// use arras_wire::corpus::{Failure, drive};
///
/// # let folder = tempfile::tempdir()?;
/// // A folder without entries drives nothing.
/// let failure = drive(folder.path(), 1, Duration::ZERO, |_| ()).unwrap_err();
/// assert!(matches!(failure, Failure::Corpus { .. }));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The corpus cannot be read, is empty, or a failing input cannot be kept.
    #[error("{}: {cause}", path.display())]
    Corpus {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
    /// The target panicked.
    #[error("seed {seed}, run {run}: {message}; input kept in {}, begins {hex}", path.display())]
    Panic {
        /// The seed of the run.
        seed: u64,
        /// Which call it was, from 0.
        run: u64,
        /// What the panic said.
        message: String,
        /// The input: a new entry of the corpus, tried first by the next run.
        path: PathBuf,
        /// The first 256 bytes of the input in hexadecimal.
        hex: String,
    },
}

/// Calls `target` with every file of `folder` and then, until `duration` is over, with mutants of them.
///
/// The mutants follow from `seed` and the files alone; how many there are follows from the clock. The
/// seed and the number of calls are printed to standard error. Half of the mutants that are frames get
/// their length and check made right again, or nothing behind the container would ever be reached.
///
/// # Errors
/// See [`Failure`].
pub fn drive(
    folder: &Path,
    seed: u64,
    duration: Duration,
    target: impl Fn(&[u8]),
) -> Result<Report, Failure> {
    let entries = read_folder(folder)?;
    let end = Instant::now() + duration;
    let mut rng = SplitMix64::new(seed);
    let mut runs = 0;
    while runs < entries.len() as u64 || Instant::now() < end {
        let input = match entries.get(runs as usize) {
            Some(entry) => entry.clone(),
            None => mutate(&entries, &mut rng),
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&input))) {
            return Err(keep(folder, &input, seed, runs, panic.as_ref()));
        }
        runs += 1;
    }
    eprintln!("{}: {} entries, seed {seed}, {runs} runs", folder.display(), entries.len());
    Ok(Report { entries: entries.len(), runs })
}

/// Whether `encoded` equals the file `name` of a folder, one that an earlier run wrote. With `ARRAS_BLESS` set in the
/// environment a file that is missing is written first.
///
/// # Errors
/// The file cannot be read or written.
pub fn is_golden(folder: &Path, name: &str, encoded: &[u8]) -> io::Result<bool> {
    let path = folder.join(name);
    if !path.exists() && std::env::var_os("ARRAS_BLESS").is_some() {
        fs::write(&path, encoded)?;
    }
    Ok(fs::read(&path)? == encoded)
}

/// Makes the length and the check of a frame right again; false where `bytes` are no frame.
pub fn reseal(bytes: &mut [u8]) -> bool {
    if bytes.len() < HEADER_LEN + CHECK_LEN || !bytes.starts_with(&MAGIC) {
        return false;
    }
    let payload_len = (bytes.len() - HEADER_LEN - CHECK_LEN) as u64;
    bytes[8..16].copy_from_slice(&payload_len.to_le_bytes());
    let end = bytes.len() - CHECK_LEN;
    let check = xxh64(&bytes[..end]);
    bytes[end..].copy_from_slice(&check.to_le_bytes());
    true
}

fn read_folder(folder: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |cause| Failure::Corpus { path, cause }
    };
    let listed = fs::read_dir(folder).and_then(|items| items.collect::<io::Result<Vec<_>>>());
    let mut paths: Vec<_> = listed.map_err(failed(folder))?.iter().map(fs::DirEntry::path).collect();
    if paths.is_empty() {
        return Err(failed(folder)(io::Error::new(io::ErrorKind::NotFound, "the corpus is empty")));
    }
    paths.sort();
    paths.iter().map(|path| fs::read(path).map_err(failed(path))).collect()
}

fn keep(folder: &Path, input: &[u8], seed: u64, run: u64, panic: &dyn std::any::Any) -> Failure {
    let path = folder.join(format!("failing-{:016x}.bin", xxh64(input)));
    if let Err(cause) = fs::write(&path, input) {
        return Failure::Corpus { path, cause };
    }
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let message = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
    let mut hex = String::new();
    for byte in input.iter().take(256) {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    Failure::Panic { seed, run, message: message.to_owned(), path, hex }
}

fn mutate(entries: &[Vec<u8>], rng: &mut SplitMix64) -> Vec<u8> {
    let mut bytes = entries[rng.below(entries.len())].clone();
    for _ in 0..=rng.below(4) {
        mutate_once(&mut bytes, entries, rng);
    }
    bytes.truncate(MAX_MUTANT);
    if rng.below(2) == 0 {
        reseal(&mut bytes);
    }
    bytes
}

fn mutate_once(bytes: &mut Vec<u8>, entries: &[Vec<u8>], rng: &mut SplitMix64) {
    let at = rng.below(bytes.len() + 1);
    match rng.below(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
        1 if at < bytes.len() => bytes[at] = rng.next_u64() as u8,
        2 => bytes.truncate(at),
        3 => {
            let other = &entries[rng.below(entries.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(&other[rng.below(other.len() + 1)..]);
        }
        4 => write_length(bytes, at, rng),
        5 => {
            let inserted: Vec<u8> = (0..=rng.below(16)).map(|_| rng.next_u64() as u8).collect();
            bytes.splice(at..at, inserted);
        }
        _ => {
            let end = at + rng.below(bytes.len() - at + 1).min(1024);
            let copied = bytes[at..end].to_vec();
            bytes.splice(at..at, copied);
        }
    }
}

/// Overwrites 1, 2, 4 or 8 bytes with a number at which a length is likely to be handled wrongly.
fn write_length(bytes: &mut [u8], at: usize, rng: &mut SplitMix64) {
    let remaining = bytes.len() as u64;
    let numbers = [0, 1, remaining, remaining.wrapping_sub(1), 1 << 16, 1 << 31, 1 << 62, u64::MAX];
    let number = numbers[rng.below(numbers.len())].wrapping_add(rng.below(3) as u64).wrapping_sub(1);
    let size = 1 << rng.below(4);
    for (slot, byte) in bytes.iter_mut().skip(at).take(size).zip(number.to_le_bytes()) {
        *slot = byte;
    }
}

/// The SplitMix64 generator (Steele, Lea, Flood, OOPSLA 2014): repeatable test data, never secrets.
///
/// ```
/// use arras_wire::corpus::SplitMix64;
///
/// // The first output for seed 0, as published with the generator.
/// assert_eq!(SplitMix64::new(0).next_u64(), 0xe220_a839_7b1d_cdaf);
/// ```
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator that follows from its seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`, or 0 for an empty range; its bias is below `bound / 2^64`.
    pub const fn below(&mut self, bound: usize) -> usize {
        ((self.next_u64() as u128 * bound as u128) >> 64) as usize
    }
}
