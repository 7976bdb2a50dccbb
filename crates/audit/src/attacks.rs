//! The attacks, one module each: plain functions from what a party sees to reconstructions, scores and
//! [`Finding`](crate::Finding)s.

pub mod adversarial;
pub mod aggregate;
pub mod ciphertext;
pub mod closed_form;
pub mod decoder;
pub mod differencing;
pub mod head;
pub mod key;
pub mod logits;
pub mod matching;
pub mod membership;
pub mod single;
