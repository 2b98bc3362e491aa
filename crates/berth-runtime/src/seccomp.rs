//! From the `linux.seccomp` of the OCI specification to a compiled filter, with a cache of compiled filters.
//!
//! Owns the translation and the cache files. Does not install anything: that is [`berth_sys::seccomp::install`].

use std::path::Path;

use berth_sys::seccomp::{Flags, Program, SeccompError};
use oci_spec::runtime::LinuxSeccomp;

/// A filter ready to be installed.
#[derive(Debug, Clone)]
pub struct Filter {
    /// The program.
    pub program: Program,
    /// Flags to install it with.
    pub flags: Flags,
    /// What is worth telling, one sentence each.
    pub notes: Vec<String>,
}

/// Compiles a filter, or takes it from the cache directory (made when missing). Trouble with the cache is never an error: the
/// filter is compiled then.
///
/// # Errors
/// For rules that make no sense.
pub fn prepare(_spec: &LinuxSeccomp, _cache: Option<&Path>) -> Result<Filter, SeccompError> {
    todo!()
}
