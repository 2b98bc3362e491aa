//! What a step asks for: the effects to carry out, and the news to tell.

use berth_types::{ErrorKind, Signal};

use super::NetworkChange;
use crate::containers::health::HealthStatus;
use crate::containers::spec::Resources;

/// What is to be done, in order. Each is idempotent.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Prepare everything and run the program; on failure release in reverse. Comes to `Ready` or `StartFailed`.
    Start,
    /// Send a signal to the first process.
    Signal(Signal),
    /// Freeze all processes.
    Freeze,
    /// Thaw them.
    Thaw,
    /// Change limits of the running container.
    ApplyLimits(Box<Resources>),
    /// Join or leave a network while running.
    ChangeNetworks(NetworkChange),
    /// Release what a run held: monitor, bundle, control groups.
    ReleaseRun,
    /// Remove everything the container owns. Comes to `Removed` or `RemovalFailed`.
    Remove {
        /// With its anonymous volumes.
        volumes: bool,
    },
}

/// What is told: to listeners, to waiters, to whoever asked.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// The program runs.
    Started,
    /// It does not.
    StartFailed {
        /// Exit code for the caller.
        exit_code: i32,
        /// Why.
        message: String,
        /// For callers.
        kind: ErrorKind,
    },
    /// A signal was sent.
    Killed {
        /// Which.
        signal: Signal,
    },
    /// A signal could not be sent, or did not end it.
    KillFailed {
        /// Why.
        message: String,
        /// For callers.
        kind: ErrorKind,
    },
    /// The run is over; [`Effect::ReleaseRun`] follows.
    Died {
        /// Exit code.
        code: i32,
        /// Whole seconds it ran.
        seconds: u64,
    },
    /// A stop is done.
    Stopped,
    /// A restart asked by a person is done.
    Restarted,
    /// Frozen.
    Paused,
    /// Not frozen.
    PauseFailed {
        /// Why.
        message: String,
        /// For callers.
        kind: ErrorKind,
    },
    /// Thawed.
    Unpaused,
    /// Not thawed.
    UnpauseFailed {
        /// Why.
        message: String,
        /// For callers.
        kind: ErrorKind,
    },
    /// Another name.
    Renamed {
        /// The name before.
        old: String,
    },
    /// New limits or restart policy hold.
    Updated,
    /// They do not.
    UpdateFailed {
        /// Why.
        message: String,
        /// For callers.
        kind: ErrorKind,
    },
    /// A network was joined or left.
    NetworksChanged {
        /// Its name.
        network: String,
    },
    /// It was not.
    NetworksFailed {
        /// Its name.
        network: String,
        /// Why.
        message: String,
        /// For callers.
        kind: ErrorKind,
    },
    /// The kernel killed a process for want of memory.
    OutOfMemory,
    /// Health changed.
    Health(HealthStatus),
    /// It is gone.
    Destroyed,
    /// It is not gone.
    RemovalFailed {
        /// Why.
        reason: String,
    },
}

/// What has to be on disk before the news are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// This step's record.
    Now,
    /// What was saved by earlier steps; this one's record follows. For facts that a daemon finds again by
    /// looking, and that a reboot makes untrue.
    Earlier,
    /// Nothing: losing it loses nothing that anyone was promised.
    Soon,
}
