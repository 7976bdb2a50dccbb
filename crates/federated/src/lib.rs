//! The key holder's side of federated training. What may be released is decided here, by every holder of a key share; the messages
//! and the rule itself are in [`arras_rounds`].
//!
//! | module | what |
//! |---|---|
//! | [`party`] | keys, uploads, shares: stored before they are sent |
//! | [`local`] | a party's own rows and the integers it makes of them |
//! | [`noise`] | discrete Gaussian noise |
//! | [`receiver`] | from decrypted sums to a head |
//! | [`session`] | a party at work: does what is due, can be stopped anywhere |
//! | [`simulate`] | all parties in one process |

pub mod error;
pub mod local;
pub mod noise;
pub mod party;
pub mod receiver;
pub mod session;
pub mod simulate;

pub use error::{Error, Result};
pub use local::Local;
pub use party::Party;
pub use session::{Board, Session};
