//! Encrypted classifier heads: the server's side, and what client and server agree on.
//!
//! A linear head computes W x + b on encrypted features x without any key: weights become integers, and the product is
//! an exact integer computation modulo q that neither rotates nor rescales. A head with a hidden layer of squares is
//! computed in slots, without keys for large batches and by rotations for small ones.
//!
//! | module | what |
//! |---|---|
//! | [`head`] | the file with weights, bias, class names and model card |
//! | [`preset`] | named parameters with the public bounds of the features |
//! | [`layout`] | where features and logits stand in polynomials |
//! | [`budget`] | how large the integer weights may be, and how large the error can get |
//! | [`plan`] | which layout to use for how many images, and what it costs |
//! | [`query`], [`reply`] | what travels |
//! | [`linear`], [`slots`], [`rotations`] | the server's computations |
//! | [`hide`] | keeping a head from its clients |
//! | [`classifier`] | the one of them that a query asks for |

pub mod budget;
pub mod classifier;
pub mod error;
#[cfg(feature = "testkit")]
mod fuzz;
pub mod head;
pub mod hide;
mod intake;
pub mod layout;
pub mod linear;
mod noise;
pub mod plan;
pub mod preset;
pub mod query;
pub mod reply;
pub mod rotations;
pub mod slots;

pub use budget::Budget;
pub use classifier::Classifier;
pub use error::{Error, Result};
#[cfg(feature = "testkit")]
pub use fuzz::{blank_keys, fuzz_one, fuzzed_model};
pub use head::{Head, Mlp, Model, ModelCard};
pub use layout::{Groups, Layout};
pub use linear::LinearHead;
pub use plan::{Plan, Rates};
pub use preset::Preset;
pub use query::Query;
pub use reply::Reply;
pub use rotations::{RotationsHead, RotationsPlan, Shape};
pub use slots::SlotsHead;
