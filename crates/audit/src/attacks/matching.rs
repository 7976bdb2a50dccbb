//! (b) Images from all gradients, by descent on their cosine distance.
