//! (i) One client's sums from the difference of two releases.
