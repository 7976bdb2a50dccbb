//! What every backend has to pass, independent of any test framework.
//!
//! | module | what |
//! |---|---|
//! | [`oracle`] | the definitions, with `%` and big integers |
//! | [`trials`] | one body of trials: every method against the oracle, the laws between them, refusals, queues |
//! | [`kat`] | known answers, computed by a program that shares nothing with this crate |
//! | [`Opaque`] | a backend around another that poisons memory and checks the order of queues |
//!
//! A trial is a name and a closure; a test binary, or a command on a machine without Rust, runs the list:
//!
//! ```
//! use arras_cpu::Cpu;
//! use arras_rns::testkit::{Scale, trials};
//!
//! for trial in trials(|| Ok(Cpu::sequential()), Scale::Quick).iter().filter(|t| t.name.starts_with("law/")) {
//!     (trial.run)()?;
//! }
//! # Ok::<(), String>(())
//! ```

use std::fmt;

use crate::Error;

mod data;
pub mod kat;
mod lab;
mod opaque;
pub mod oracle;
mod trials;

pub use opaque::{Fault, FaultKind, Opaque};
pub use trials::trials;

/// How much is tried.
///
/// See the example of the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// Every method and every class of primes up to N = 2^12: seconds.
    Quick,
    /// All degrees up to 2^17: minutes.
    Full,
}

/// One trial.
///
/// See the example of the [module](self).
pub struct Trial {
    /// Its name: the operation, then the shape.
    pub name: String,
    /// Runs it. The error names the first difference, with the seed that gives it again.
    pub run: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a trial failed.
#[derive(Debug)]
struct Failure(String);

type Outcome<T = ()> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Failure(message)
    }
}
