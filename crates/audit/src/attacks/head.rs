//! (g) The server's head from answers.
