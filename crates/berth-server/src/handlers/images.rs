//! Requests about images.
