//! (f) Whether an image was trained on.
