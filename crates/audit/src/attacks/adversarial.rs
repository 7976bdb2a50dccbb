//! (l) Images changed so that the prediction changes.
