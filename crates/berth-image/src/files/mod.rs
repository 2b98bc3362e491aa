//! Trees of files as archives, and archives as changes of a tree.
//!
//! Owns: walking a tree that somebody else may change meanwhile ([`walk`]), writing it as an archive
//! ([`pack`]), and writing an archive's entries into one ([`extract`]). Does not own: which tree it is, or who
//! may ask for it.
//!
//! Invariants: everything happens beneath a descriptor that the caller gives. No link is followed out of it,
//! nothing but regular files is opened for reading, and what is exchanged while it is being looked at leads
//! to an error or to something else beneath the same descriptor, never outside.

pub mod extract;
pub mod pack;
pub mod walk;

pub use extract::{ExtractOptions, Extracted, extract};
pub use pack::{PackOptions, pack};
