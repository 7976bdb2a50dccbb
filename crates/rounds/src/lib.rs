//! Rounds of federated training without a secret: what parties say to each other, who may see which sum, and the state of a
//! coordinator that relays and adds. State machines do no I/O: time and stored bytes come from outside.
//!
//! | module | what |
//! |---|---|
//! | [`agreement`] | what all parties agree on before anything is sent, and the roster that pins who they are |
//! | [`mod@format`] | sums as integers: fixed point, parameters, masks |
//! | [`message`] | the messages and their signatures |
//! | [`rule`] | what a holder of a key share demands before it answers |
//! | [`coordinator`] | the coordinator's state machine, a fold over stored events |
//! | [`journal`] | storage that is written before anything is sent |
//! | [`ledger`] | the hash-chained record of releases |
//! | [`privacy`] | what noisy releases cost |

pub mod agreement;
pub mod coordinator;
pub mod error;
pub mod format;
pub mod journal;
pub mod ledger;
pub mod message;
pub mod privacy;
pub mod rule;

pub use agreement::{Agreement, Member, Roster};
pub use coordinator::Coordinator;
pub use error::{Error, Refusal, Result};
pub use journal::Journal;
pub use ledger::Ledger;
