//! OCI runtime: check, plan, carry out.
pub mod init;
pub mod resources;
pub mod seccomp;
