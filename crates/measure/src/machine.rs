//! What was measured, on which machine, and in which state it was.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A commit.
///
/// ```
/// use arras_measure::machine::Source;
///
/// let text = "0123456789abcdef0123456789abcdef01234567 1700000000 clean";
/// let source = Source::built(text).ok_or("no commit")?;
/// assert_eq!((source.short(8), source.committed, source.dirty), ("01234567", 1_700_000_000, false));
/// assert_eq!(Source::built("built without git"), None);
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// 40 hexadecimal digits.
    pub commit: String,
    /// When it was committed, in seconds since 1970: what tells newer records from older ones.
    pub committed: u64,
    /// Whether tracked files differed from it. Such a record is not kept.
    pub dirty: bool,
}

impl Source {
    /// The commit of the checkout at `root`.
    ///
    /// # Errors
    /// If `root` is no checkout, or there is no `git`.
    pub fn of(root: &Path) -> Result<Self> {
        let git = |arguments: &[&str]| -> Result<String> {
            let output = Command::new("git").arg("-C").arg(root).args(arguments).output();
            let output = output.map_err(|source| Error::System { place: "git", source })?;
            if !output.status.success() {
                let message = String::from_utf8_lossy(&output.stderr);
                return Err(Error::field(format!("git {}", arguments.join(" ")), message.trim()));
            }
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let committed = git(&["show", "--no-patch", "--format=%ct", "HEAD"])?;
        Ok(Self {
            commit: git(&["rev-parse", "HEAD"])?,
            committed: committed.parse().map_err(|_| Error::field("committed", committed))?,
            dirty: !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty(),
        })
    }

    /// What a build script wrote down: commit, time of the commit, and `dirty` or `clean`, with spaces between. `None` if
    /// the program was not built from a checkout.
    pub fn built(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (commit, committed, state) = (words.next()?, words.next()?, words.next()?);
        let source =
            Self { commit: commit.into(), committed: committed.parse().ok()?, dirty: state != "clean" };
        source.check().is_ok().then_some(source)
    }

    pub(crate) fn check(&self) -> Result<()> {
        let commit = &self.commit;
        if commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(());
        }
        Err(Error::field("commit", format!("{commit:?} is not 40 hexadecimal digits")))
    }

    /// The commit, abbreviated.
    pub fn short(&self, digits: usize) -> &str {
        self.commit.get(..digits).unwrap_or(&self.commit)
    }
}

/// A computer.
///
/// ```
/// use arras_measure::machine::Machine;
///
/// let here = Machine::here();
/// assert!(here.cores >= 1 && here.system.contains(std::env::consts::OS));
/// println!("{} with {:?}", here.cpu, here.gpus);
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// What the CPU calls itself.
    pub cpu: String,
    /// Cores that the program may use.
    pub cores: usize,
    /// Operating system and architecture.
    pub system: String,
    /// The instruction sets that matter here.
    pub features: BTreeSet<String>,
    /// GPUs, if the system management library of their driver tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Gpu>,
}

/// A GPU and its driver.
///
/// See the example of [`Machine`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// What it calls itself.
    pub name: String,
    /// Version of the driver.
    pub driver: String,
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        Self {
            cpu: cpu_name(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            features: cpu_features(),
            gpus: crate::telemetry::gpus(),
        }
    }
}

/// The model, with family and model numbers where it has them: virtual machines hide the marketing name.
fn cpu_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name| {
        let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    match (field("model name"), field("cpu family"), field("model")) {
        (Some(name), Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
        (Some(name), ..) => name,
        _ => "unknown CPU".into(),
    }
}

fn cpu_features() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! probe {
            ($($feature:tt)*) => { $(if std::arch::is_x86_feature_detected!($feature) { found.insert($feature.to_owned()); })* };
        }
        probe!("avx2" "fma" "bmi2" "avx512f" "avx512dq" "avx512vl" "avx512ifma");
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        found.insert("neon".to_owned());
    }
    found
}

/// Bytes of the largest cache that a core can use, where the system tells; else 32 MiB.
pub fn largest_cache() -> u64 {
    const OTHERWISE: u64 = 32 << 20;
    let Ok(entries) = std::fs::read_dir("/sys/devices/system/cpu/cpu0/cache") else { return OTHERWISE };
    let sizes = entries.flatten().filter_map(|entry| {
        let size = std::fs::read_to_string(entry.path().join("size")).ok()?;
        Some(size.trim().strip_suffix('K')?.parse::<u64>().ok()? << 10)
    });
    sizes.max().unwrap_or(OTHERWISE)
}

/// Runnable tasks, averaged over the last minute, where the system tells.
pub fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// Clock rates of the cores now, in MHz, where the system tells; a virtual machine may tell a nominal one.
pub fn clocks() -> Vec<f64> {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.filter(|(key, _)| key.trim() == "cpu MHz").filter_map(|(_, mhz)| mhz.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_says_what_it_is_made_of() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let built = |state: &str| Source::built(&format!("{commit} 17 {state}"));
        assert_eq!(built("clean"), Some(Source { commit: commit.into(), committed: 17, dirty: false }));
        assert!(built("dirty").unwrap().dirty);
        assert_eq!(built("clean").unwrap().short(4), "0123");
        for text in ["", "unknown", "0123 17 clean", &format!("{commit} soon clean"), commit] {
            assert_eq!(Source::built(text), None, "{text}");
        }
    }

    #[test]
    fn this_machine_has_cores_and_a_cache() {
        assert!(Machine::here().cores > 0);
        assert!(largest_cache() >= 1 << 15);
        assert!(clocks().iter().all(|mhz| *mhz > 0.0));
    }
}
