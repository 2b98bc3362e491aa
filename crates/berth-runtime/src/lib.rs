//! OCI runtime: check, plan, carry out.
//!
//! A library for callers with one thread (the monitor), and the command line of runc over it ([`cli`]). Both keep
//! the same state, so a container made by one is seen by the other.
//!
//! ```text
//! config.json ──plan──▶ SetupPlan ──create──▶ first process waits at the gate ──start──▶ program
//! ```
//!
//! Read in this order: [`plan`], [`create`](mod@create), `first_process`, `root`, `credentials`, [`container`], [`exec`](mod@exec).

pub mod cli;
pub mod container;
pub mod create;
mod credentials;
pub mod error;
pub mod exec;
mod first_process;
mod handshake;
pub mod hooks;
pub mod init;
pub mod intel_rdt;
pub mod limits;
pub mod net_devices;
pub mod plan;
pub mod resources;
mod root;
pub mod seccomp;
mod sources;
pub mod state;

pub use cli::main;
pub use container::{Container, remove_abandoned};
pub use create::{CreateRequest, StdioRequest, create};
pub use error::{RuntimeError, StartFailure};
pub use exec::{ExecProcess, ExecRequest, exec, exec_in, resize};
pub use sources::RootSource;
pub use state::{StateRecord, Status};
