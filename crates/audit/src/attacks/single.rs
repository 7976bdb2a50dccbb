//! (j) The token of an image that is alone in its class.
