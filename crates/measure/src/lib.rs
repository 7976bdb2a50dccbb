//! How arras is measured: one list of cases, each checked against the oracle before it is timed, with the time that the
//! machine would need for it at its ceilings; records of what was measured; and comparisons that know about noise.
//!
//! | module | what |
//! |---|---|
//! | [`cases`] | the list, over any backend: criterion benches and `arras bench` iterate it |
//! | [`sweep`] | which shapes the list is made for |
//! | [`device`], [`clock`] | what is measured, and by which clock |
//! | [`ceiling`] | what the machine reaches at its simplest work |
//! | [`run`] | rounds of samples |
//! | [`record`], [`machine`], [`table`] | the files in `records/`, and the README's tables |
//! | [`waterfall`], [`trace`] | the whole road, stage by stage, and a backend that times its operations |
//! | [`telemetry`] | clocks, power and temperatures while something runs |
//! | [`stats`], [`compare`] | quantiles, intervals, verdicts |
//! | [`report`] | records as one HTML page |

pub mod cases;
pub mod ceiling;
pub mod clock;
pub mod compare;
pub mod device;
pub mod error;
pub mod machine;
mod random;
pub mod record;
pub mod report;
pub mod run;
pub mod stats;
pub mod sweep;
pub mod table;
pub mod telemetry;
pub mod trace;
pub mod waterfall;

pub use cases::{Cases, Group, Ready};
pub use compare::{Report, Verdict};
pub use device::{AnyDevice, CpuDevice, Device};
pub use error::{Error, Result};
pub use record::{Benchmark, Record};
pub use run::{Effort, measure};
pub use sweep::Sweep;
