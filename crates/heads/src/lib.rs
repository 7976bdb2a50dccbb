//! Encrypted classifier heads: the server's side, and what client and server agree on.
//!
//! A linear head computes W x + b on encrypted features x without any key: weights become integers, and the product is
//! an exact integer computation modulo q that neither rotates nor rescales.
//!
//! | module | what |
//! |---|---|
//! | [`head`] | the file with weights, bias, class names and model card |
//! | [`preset`] | named parameters with the public bounds of the features |
//! | [`layout`] | where features and logits stand in polynomials |
//! | [`budget`] | how large the integer weights may be, and how large the error can get |
//! | [`plan`] | which layout to use for how many images, and what it costs |
//! | [`query`], [`reply`] | what travels |
//! | [`linear`] | the server's computation |

pub mod budget;
pub mod error;
#[cfg(feature = "testkit")]
mod fuzz;
pub mod head;
pub mod layout;
pub mod linear;
pub mod plan;
pub mod preset;
pub mod query;
pub mod reply;

pub use budget::Budget;
pub use error::{Error, Result};
#[cfg(feature = "testkit")]
pub use fuzz::fuzz_one;
pub use head::{Head, ModelCard};
pub use layout::{Groups, Layout};
pub use linear::LinearHead;
pub use plan::{Plan, Rates};
pub use preset::Preset;
pub use query::Query;
pub use reply::Reply;
