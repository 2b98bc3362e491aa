//! Linux, typed: mounts, namespaces, cgroups, process handles, terminals, seccomp, atomic files. The only crate with unsafe code.

pub mod capability;
pub mod cgroup;
pub mod credentials;
pub mod datagram;
pub mod error;
pub mod executable;
pub mod fs;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod network;
pub mod path;
pub mod proc;
pub mod process;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod terminal;
pub mod xtables;

pub use error::{Attempt, Error, Result};
