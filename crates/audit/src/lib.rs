//! What each party of encrypted inference and federated training sees, attacked and measured.
//!
//! A reconstruction is worth what it adds to the best guess that ignores the victim: the mean of images that the
//! attacker has already. Every number here is reported beside that baseline, as a [`Score`].
//!
//! - [`metrics`]: PSNR, SSIM, NMI and LPIPS, equal to the packages that the field uses.
//! - [`attacks`]: plain functions, one module per attack, from what a party sees to reconstructions or scores.
//! - [`Finding`]: one row of the report; [`Audit`]: all of them, the document `arras-audit/1`.
//! - [`rows`]: tokens with classes, the material of the attacks on models.
//! - [`quality`]: the best guess that ignores the victim, and reconstructions beside it.
//! - [`scene`], [`regression`]: an attacker that learns on pictures of its own.
//! - [`network`], [`picture`]: a transformer with gradients, pictures as it takes them.
//! - [`run()`]: all of it, rows kept as they come; [`report`]: the table and the page.
//! - [`statistics`]: baselines, advantages and their bootstrap intervals.

pub mod attacks;
mod error;
mod finding;
mod image;
pub mod metrics;
pub mod network;
pub mod picture;
pub mod quality;
mod random;
pub mod regression;
pub mod report;
pub mod rows;
mod run;
pub mod scene;
mod source;
pub mod statistics;

pub use error::{Error, Result};
pub use finding::{Attack, Audit, Finding, Picture, SCHEMA, Score, Verdict};
pub use image::Image;
pub use random::Random;
pub use rows::Rows;
pub use run::{Plan, Subject, Watch, run};
pub use source::Source;
