//! What happens to a container: the events that [`step`](super::step) is asked about.

use berth_types::{ErrorKind, Signal, Timestamp};

use crate::containers::health::ProbeResult;
use crate::containers::networking::Attachment;
use crate::containers::requests::{RemoveOptions, StopOptions, UpdateRequest};

/// What a person asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Run it.
    Start,
    /// Ask it to end, later force it.
    Stop(StopOptions),
    /// As `Stop`, then `Start`.
    Restart(StopOptions),
    /// Send a signal.
    Kill(Signal),
    /// Freeze it.
    Pause,
    /// Freeze it while something of the daemon's looks at its files: a daemon that finds it so thaws it.
    HoldStill,
    /// Thaw it.
    Unpause,
    /// Give it another name, which is reserved already.
    Rename(String),
    /// Join a network.
    Connect {
        /// Its name.
        network: String,
        /// How.
        attachment: Box<Attachment>,
    },
    /// Leave a network.
    Disconnect {
        /// Its name.
        network: String,
    },
    /// Change limits and restart policy; `resources` are complete (merged with the present ones).
    Update(Box<UpdateRequest>),
    /// Remove it.
    Remove(RemoveOptions),
}

/// What an effect came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The program runs.
    Ready {
        /// Its process on the host.
        pid: u32,
        /// Since when.
        at: Timestamp,
    },
    /// The program could not be started; everything of the attempt was released.
    StartFailed {
        /// 126, 127 or 128.
        exit_code: i32,
        /// Attempt, object and causes.
        message: String,
        /// For callers.
        kind: ErrorKind,
    },
    /// A signal could not be sent.
    SignalFailed {
        /// Which.
        signal: Signal,
        /// Why.
        message: String,
        /// For callers.
        kind: ErrorKind,
    },
    /// A signal was sent.
    SignalSent {
        /// Which.
        signal: Signal,
    },
    /// All processes are frozen.
    Frozen,
    /// They could not be.
    FreezeFailed {
        /// Why.
        message: String,
        /// For callers.
        kind: ErrorKind,
    },
    /// All processes run on.
    Thawed,
    /// They do not.
    ThawFailed {
        /// Why.
        message: String,
        /// For callers.
        kind: ErrorKind,
    },
    /// New limits hold.
    LimitsApplied,
    /// They do not.
    LimitsFailed {
        /// Why.
        message: String,
        /// For callers.
        kind: ErrorKind,
    },
    /// A network was joined or left.
    NetworksChanged(NetworkChange),
    /// It was not.
    NetworksFailed {
        /// What was wanted.
        change: NetworkChange,
        /// Why.
        message: String,
        /// For callers.
        kind: ErrorKind,
    },
    /// Nothing of the container is left.
    Removed,
    /// Something is left.
    RemovalFailed {
        /// Why.
        reason: String,
    },
}

/// What the monitor tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// The first process ended.
    Exited(ExitFact),
    /// The kernel killed a process for want of memory.
    OutOfMemory,
    /// The monitor itself is gone and left no exit record.
    MonitorLost,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitFact {
    /// Exit code, or 128 and the signal.
    pub code: i32,
    /// Whether the kernel killed for want of memory in this run.
    pub out_of_memory: bool,
    /// When.
    pub at: Timestamp,
}

/// What the daemon finds of a container when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// A monitor with a running program.
    Running {
        /// Its process.
        pid: u32,
        /// Whether it is frozen.
        paused: bool,
    },
    /// A monitor whose program was never told to start.
    Prepared,
    /// An exit record.
    Exited(ExitFact),
    /// Nothing.
    Nothing,
}

/// Which time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// The deadline of a stop.
    Grace,
    /// The end of a pause before a restart.
    Backoff,
    /// Another attempt at a removal.
    Removal,
}

/// Everything that can happen to a container.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Somebody asks.
    Request(Request),
    /// An effect came to something.
    Outcome(Outcome),
    /// The monitor tells.
    Fact(Fact),
    /// A time has come.
    Timer(Timer),
    /// A health probe ended.
    Probe(ProbeResult),
    /// The daemon looked, once, after it started.
    Observed(Observation),
    /// The daemon is up: restart policies apply.
    DaemonStarted,
}

/// A change of a running container's networks; the record has it already.
#[derive(Debug, Clone, PartialEq)]
pub enum NetworkChange {
    /// Join this network.
    Join {
        /// Its name.
        network: String,
    },
    /// Leave this network.
    Leave {
        /// Its name.
        network: String,
        /// How it was joined.
        attachment: Box<Attachment>,
    },
}

impl NetworkChange {
    /// The network's name.
    #[must_use]
    pub fn network(&self) -> &str {
        match self {
            Self::Join { network } | Self::Leave { network, .. } => network,
        }
    }
}
