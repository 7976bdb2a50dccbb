//! (c) Images from plain CLS tokens, by a decoder.
