//! A coordinator of federated rounds behind HTTP, and the store that survives its crashes.
//!
//! | module | what |
//! |---|---|
//! | [`federation`] | routes, limits, tokens |
//! | [`store`] | a journal in an embedded database |

pub mod federation;
pub mod store;

pub use store::Store;
