//! (d) Images from decrypted sums of tokens and from decrypted statistics.
