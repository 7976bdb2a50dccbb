//! (k) Images from logits.
