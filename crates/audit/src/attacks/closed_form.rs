//! (a) Images from the gradients of patch and position embeddings, by least squares.
