//! OCI runtime: check, plan, carry out.
pub mod resources;
pub mod seccomp;
