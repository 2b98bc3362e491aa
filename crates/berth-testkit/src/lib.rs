//! Support for tests and measurements of the real executable; no product code uses it.
//!
//! Owns: private daemons (Berth's and, as the reference, Docker's) in directories of their own, a
//! registry on loopback, test images made from Debian's packages, a terminal to type into, and the
//! check that nothing is left behind. It does not own any expectation: those stand in the tests.
//!
//! Invariants:
//! - Whatever a value here starts, it ends when dropped, also while a test panics: by process id
//!   through a process descriptor, never by name.
//! - Nothing waits for time to pass; [`wait::until`] waits for a condition and fails at a deadline.
//! - A missing requirement is a failure that names it ([`needs`]), never a silent skip.

pub mod archive;
pub mod authority;
pub mod bulk;
pub mod cgroup;
pub mod command;
pub mod cutting_proxy;
pub mod daemon;
pub mod disk;
mod executable;
pub mod hang;
pub mod harness;
pub mod http;
pub mod images;
pub mod leak;
pub mod liar;
pub mod names;
pub mod needs;
pub mod netns;
pub mod network;
pub mod nfs_server;
pub mod podman;
pub mod process;
pub mod proxy;
pub mod random;
pub mod registry;
pub mod room;
pub mod scratch;
pub mod served;
pub mod smb_server;
pub mod stub_registry;
pub mod terminal;
pub mod token_server;
pub mod wait;
pub mod words;

pub use command::{Command, Output};
pub use daemon::{Client, Daemon, Engine, Settings};
pub use network::Network;
