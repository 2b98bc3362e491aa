//! What daemon and monitor say to each other. Described for readers in `docs/internals/monitor-protocol.md`.
//!
//! Owns the messages and their framing ([`frame`]). The protocol only grows: requests, events and members are added, none
//! changes its meaning, and unknown ones are answered with `not_implemented` or passed over. A change that cannot be made
//! so gets a new [`VERSION`], and the monitor of the old one is spoken to in its own.

pub mod frame;
#[cfg(test)]
mod saved_tests;

use std::path::PathBuf;

use berth_types::Timestamp;
use oci_spec::runtime::{LinuxResources, Process};
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::launch::ConsoleSize;
use crate::network::NetworkChange;
use crate::record::ExitRecord;

/// The version of the protocol, told by both sides in their first message.
pub const VERSION: u32 = 1;

/// From the daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromDaemon {
    /// The first message on every connection.
    Hello {
        /// [`VERSION`] of the daemon.
        version: u32,
    },
    /// Make the container of this directory. Only as the first message to a monitor that was just executed, or
    /// waits since; comes with the locked `monitor.json`, then one stream socket for each of `attach`.
    Launch {
        /// The container's runtime directory.
        directory: PathBuf,
        /// Who is attached before the program runs.
        #[serde(default)]
        attach: Vec<Streams>,
    },
    /// A request, answered by [`FromMonitor::Answer`] with the same number. Answers may come in another order.
    Request {
        /// Chosen by the daemon; unique on the connection.
        number: u64,
        /// What is asked.
        request: Request,
    },
}

/// What the daemon can ask.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Execute the program of a created container. Answered when it has been executed. If it cannot be, the answer is the
    /// reason, and the container's run is over: the exit record is in place by then.
    Start,
    /// Send a signal to the container's first process, or to all of them.
    Kill {
        /// 1 to 64.
        signal: i32,
        /// All processes of the container.
        #[serde(default)]
        all: bool,
    },
    /// Freeze all processes.
    Pause,
    /// Thaw them.
    Resume,
    /// Change limits.
    Update {
        /// The new limits; what is left out stays.
        resources: Box<LinuxResources>,
    },
    /// Set the size of a terminal.
    Resize {
        /// An exec session; the container itself when left out.
        #[serde(default)]
        exec: Option<String>,
        /// The new size.
        size: ConsoleSize,
    },
    /// Attach the stream socket that comes with this frame.
    Attach {
        /// What the stream carries.
        streams: Streams,
    },
    /// Run one more process. A stream socket may come with this frame; without one the process has no input and
    /// its output is thrown away.
    Exec {
        /// The session.
        exec: Box<ExecRequest>,
    },
    /// Send a signal to the process of an exec session.
    ExecKill {
        /// The session.
        exec: String,
        /// 1 to 64.
        signal: i32,
    },
    /// The container joined or left a network. The resolver's sockets, if announced, come with this frame, then those of the ports to
    /// hold.
    Network {
        /// What changes.
        change: Box<NetworkChange>,
    },
    /// List the container's processes.
    Processes,
    /// Tell the present state.
    Status,
}

impl Request {
    /// The name, for errors.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Kill { .. } => "kill",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Update { .. } => "update",
            Self::Resize { .. } => "resize",
            Self::Attach { .. } => "attach",
            Self::Exec { .. } => "exec",
            Self::ExecKill { .. } => "exec_kill",
            Self::Network { .. } => "network",
            Self::Processes => "processes",
            Self::Status => "status",
        }
    }
}

/// What an attached stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Streams {
    /// Bytes from the client go to standard input.
    #[serde(default)]
    pub stdin: bool,
    /// The client gets standard output.
    #[serde(default)]
    pub stdout: bool,
    /// The client gets standard error.
    #[serde(default)]
    pub stderr: bool,
}

/// One more process in a running container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The session's identifier, chosen by the daemon.
    pub id: String,
    /// What to run, and as whom. `terminal` and `console_size` of it are followed.
    pub process: Process,
    /// What the stream carries.
    #[serde(default)]
    pub streams: Streams,
}

/// From the monitor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromMonitor {
    /// The first message on every connection. On the connection of the launch it comes when the outcome is known.
    Hello {
        /// [`VERSION`] of the monitor.
        version: u32,
        /// The state at this moment. Every later change is told by an event.
        status: Box<Status>,
    },
    /// In place of `Hello` on the connection of the launch: the container could not be created (or, with
    /// `start`, not started). The exit record is in place and the monitor ends.
    LaunchFailed(Failure),
    /// The answer to the request with this number.
    Answer {
        /// The request's number.
        number: u64,
        /// What came of it.
        result: Result<Reply, Failure>,
    },
    /// Something happened.
    Event(MonitorEvent),
}

/// What a request brings.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done.
    Done,
    /// Limits are changed; one sentence for each that could not be followed.
    Updated {
        /// The sentences.
        notes: Vec<String>,
    },
    /// The exec session runs: its program has been executed.
    ExecStarted {
        /// Its process id on the host.
        pid: i32,
    },
    /// The container's processes.
    Processes {
        /// Process ids on the host.
        pids: Vec<i32>,
    },
    /// The present state.
    Status(Box<Status>),
}

/// Something that happened to the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonitorEvent {
    /// Its run is over; the exit record is in place and all output is in the log. The monitor then cleans up and closes the
    /// connection; only after that may the container be launched again or its directory removed.
    Exited(Box<ExitRecord>),
    /// An exec session is over.
    ExecExited {
        /// The session.
        exec: String,
        /// Its exit code, or 128 and the signal.
        exit_code: i32,
        /// When it ended.
        at: Timestamp,
    },
    /// The kernel killed a process of the container for lack of memory.
    Oom {
        /// When it was noticed.
        at: Timestamp,
    },
    /// Cleaning up after the container did not succeed entirely.
    LeftBehind {
        /// What is left, and why.
        message: String,
    },
}

/// Where a container is in its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Made, but its program is not executed yet.
    Created,
    /// Its program runs.
    Running,
    /// Frozen.
    Paused,
    /// Over; the monitor is about to end.
    Exited,
}

/// The state of a monitor and its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The container.
    pub id: String,
    /// Where it is in its run.
    pub state: RunState,
    /// Process id of its first process on the host.
    pub pid: i32,
    /// Process id of the monitor.
    pub monitor_pid: i32,
    /// When its program was executed.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// Whether the kernel killed a process of it for lack of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// What was clamped at creation, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Exec sessions that run, and the latest that ended.
    #[serde(default)]
    pub execs: Vec<ExecStatus>,
}

/// The state of an exec session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStatus {
    /// The session.
    pub id: String,
    /// Its process id on the host.
    pub pid: i32,
    /// Exit code and time, when it is over.
    #[serde(default)]
    pub ended: Option<crate::record::ExecRecord>,
}
