//! Heads from features, how good they are, and synthetic tiles to try them on.
//!
//! - [`features`]: the file of CLS tokens; [`import`]: the same from NumPy, CSV and foreign safetensors files.
//! - [`basis`]: principal components of public images, for fewer features.
//! - [`ridge`]: multi-class ridge regression in closed form, its penalty chosen by leaving groups out.
//! - [`counts`]: metrics from counts alone.
//! - [`statistics`]: the same fit from sums over rows, for clients that send nothing else; [`split`]: rows over clients.
//! - [`mod@train`]: features to a [`Head`](arras_heads::Head) with its model card.
//! - [`mlp`]: heads with a hidden layer of squares, by gradient descent.
//! - [`metrics`]: confusion, accuracy, AUC and calibration with intervals by group bootstrap.
//! - [`baseline`]: what colour alone can tell.
//! - [`tiles`]: synthetic H&E-like images whose classes differ in texture, not in colour.

pub mod baseline;
pub mod basis;
pub mod counts;
mod error;
pub mod features;
#[cfg(any(test, feature = "testkit"))]
mod fuzz;
pub mod import;
pub mod metrics;
pub mod mlp;
mod random;
pub mod ridge;
pub mod split;
pub mod statistics;
pub mod tiles;
pub mod train;

pub use basis::Basis;
pub use error::Error;
pub use features::Features;
#[cfg(feature = "testkit")]
pub use fuzz::fuzz_one;
pub use metrics::{Evaluation, evaluate};
pub use mlp::{TrainedMlp, Training, train_mlp};
pub use train::{Trained, train};
