//! (e) Images from bytes of ciphertexts: the control.
