//! The process beside each container, its protocol, and the daemon's handle on it.
//!
//! - [`main`] is the monitor: one small process per container, parent of the container's first process. It outlives
//!   the daemon, holds standard input and output, writes the log, keeps the exit record, and serves those who attach.
//! - [`MonitorHandle`] is the daemon's end: [`launch`] makes a monitor, [`connect`] finds one again.
//! - [`protocol`] is what they say to each other; [`mod@log`] is what both know about log files.
//!
//! Does not own any decision about a container, nor its record: those are the engine's.

mod error;
mod handle;
mod launch;
pub mod limits;
pub mod log;
mod network;
mod process;
pub mod protocol;
mod record;

pub use error::{Failure, MonitorError, StartFailure};
pub use handle::{
    ATTACHED_AT_LAUNCH, Created, ExecStarted, MonitorHandle, Spares, connect, launch, launch_with,
};
pub use launch::{
    CONFIG_FILE, ConsoleSize, LAUNCH_FILE, LaunchRequest, RuntimeChoice, SOCKET_FILE,
};
pub use network::{HeldPort, LaunchDescriptors, NetworkChange, NetworkLaunch};
pub use process::{main, salvage};
pub use protocol::{ExecRequest, MonitorEvent, RunState, Status, Streams};
pub use record::{EXIT_FILE, ExecRecord, ExitRecord, read_exit_record};
