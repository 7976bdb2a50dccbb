//! (h) Keys from what is published.
