//! Linux, typed: mounts, namespaces, cgroups, process handles, terminals, seccomp, atomic files. The only crate with unsafe code.

pub mod error;
pub mod fs;
pub mod path;

pub use error::{Attempt, Error, Result};

pub mod cgroup;
pub mod seccomp;
