//! Which instructions the kernels are made of.

use std::fmt;

use arras_rns::{Error, Result};

/// An instruction set. All paths give the same words.
///
/// ```
/// use arras_cpu::Path;
///
/// // In ascending order of speed; every processor has the first.
/// let paths: Vec<Path> = Path::available().collect();
/// assert_eq!((paths[0], paths.last()), (Path::Portable, Some(&Path::detect())));
/// assert!(paths.iter().all(|path| path.check().is_ok()));
///
/// assert_eq!("avx512-ifma".parse::<Path>()?, Path::Ifma);
/// let refused = "sse".parse::<Path>().unwrap_err();
/// assert!(refused.to_string().starts_with(r#"path: name is "sse", expected"#));
/// # Ok::<(), arras_rns::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Path {
    /// Plain Rust, on every processor: the oracle.
    Portable,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 F, DQ, VL and BW.
    Avx512,
    /// [`Avx512`](Self::Avx512) and IFMA, the products of 52-bit integers.
    Ifma,
}

impl Path {
    /// All paths, slowest first.
    pub const ALL: [Path; 4] = [Path::Portable, Path::Avx2, Path::Avx512, Path::Ifma];

    /// The fastest path of this processor.
    pub fn detect() -> Self {
        Self::available().last().unwrap_or(Path::Portable)
    }

    /// The paths of this processor, slowest first.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        Self::ALL.into_iter().filter(|path| path.missing().is_none())
    }

    /// Checks that the processor can take this path.
    ///
    /// # Errors
    /// [`Error::Device`] with the processor feature that is missing.
    pub fn check(self) -> Result<()> {
        match self.missing() {
            None => Ok(()),
            Some(feature) => Err(Error::Device {
                place: format!("choosing the path {self}"),
                message: format!("the processor lacks {feature}"),
            }),
        }
    }

    /// The first feature the path needs that the processor lacks.
    #[cfg(target_arch = "x86_64")]
    pub fn missing(self) -> Option<&'static str> {
        macro_rules! lacking {
            ($($feature:tt)*) => {{ $(if !std::is_x86_feature_detected!($feature) { return Some($feature); })* None }};
        }
        match self {
            Path::Portable => None,
            Path::Avx2 => lacking!("avx2"),
            Path::Avx512 => lacking!("avx512f" "avx512dq" "avx512vl" "avx512bw"),
            Path::Ifma => Path::Avx512.missing().or_else(|| lacking!("avx512ifma")),
        }
    }

    /// The first feature the path needs that the processor lacks.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn missing(self) -> Option<&'static str> {
        (self != Path::Portable).then_some("the x86-64 instruction set")
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Path::Portable => "portable",
            Path::Avx2 => "avx2",
            Path::Avx512 => "avx512",
            Path::Ifma => "avx512-ifma",
        })
    }
}

impl std::str::FromStr for Path {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|path| path.to_string() == name);
        found.ok_or_else(|| Error::shape("path", "name", name, Self::ALL.map(|path| path.to_string())))
    }
}
