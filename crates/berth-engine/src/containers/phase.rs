//! Where a container is in its life.
//!
//! ```text
//!  Created, Exited ── start ──▶ Starting             Running ◀── pause, unpause ──▶ Paused
//!  Starting ── ready ─────────▶ Running              Starting, Running, Paused ── stop ──▶ Stopping
//!  Starting ── failed ────────▶ Exited               Running, Paused, Stopping ── exit ──▶ Exited
//!  Exited ── restart policy ──▶ Backoff ── due ──▶ Starting            Backoff ── stop ──▶ Exited
//!  Created, Exited, Backoff, Dead ── remove ──▶ Removing ──▶ gone, or Dead until removal is retried
//! ```

use berth_types::{Signal, Timestamp};
use serde::{Deserialize, Serialize};

/// What is to happen once the present run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterStop {
    /// It stays ended.
    Stay,
    /// It is started again (`restart`).
    Start,
    /// It is removed (`rm -f`).
    Remove {
        /// With its anonymous volumes.
        volumes: bool,
    },
}

/// Who wanted a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartCause {
    /// A person, by `start`.
    User,
    /// A person, by `restart`.
    Restart,
    /// The restart policy, after an exit.
    Policy,
    /// The restart policy, because the daemon started.
    Boot,
}

/// One phase with what is known in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Made, never started.
    Created,
    /// On its way: the effects of a start are under way.
    Starting {
        /// Since when.
        since: Timestamp,
        /// Who wanted it.
        cause: StartCause,
    },
    /// Its program runs.
    Running {
        /// First process, as the host numbers it.
        pid: u32,
        /// Since when.
        since: Timestamp,
    },
    /// Its processes are frozen.
    Paused {
        /// First process.
        pid: u32,
        /// Running since when.
        since: Timestamp,
    },
    /// Asked to end.
    Stopping {
        /// First process; `None` while its start is still under way.
        pid: Option<u32>,
        /// Running since when.
        since: Timestamp,
        /// Which signal asked.
        signal: Signal,
        /// When SIGKILL follows, or, once it was sent, when we stop believing in it; `None` for never.
        deadline: Option<Timestamp>,
        /// Whether SIGKILL was sent.
        killed: bool,
        /// What follows.
        then: AfterStop,
    },
    /// Its program ended, or could not be started; see the record's latest run.
    Exited,
    /// Ended, and started again by policy when `due`.
    Backoff {
        /// When.
        due: Timestamp,
    },
    /// Everything of it is being removed.
    Removing {
        /// With its anonymous volumes.
        volumes: bool,
        /// Whether it is gone for everyone already, and what is left of it is cleared away unseen.
        #[serde(default)]
        unseen: bool,
    },
    /// A removal failed; it is tried again.
    Dead {
        /// With its anonymous volumes.
        volumes: bool,
        /// Why it failed.
        reason: String,
    },
}

impl Phase {
    /// Whether a start is under way, whose end decides where the container's files are mounted.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        matches!(
            self,
            Self::Starting { .. } | Self::Stopping { pid: None, .. }
        )
    }

    /// Whether nothing of it runs, and nothing is about to without another start.
    #[must_use]
    pub fn is_still(&self) -> bool {
        self.pid().is_none() && !self.is_under_way()
    }

    /// Whether a process of it exists.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(
            self,
            Self::Running { .. } | Self::Paused { .. } | Self::Stopping { pid: Some(_), .. }
        )
    }

    /// Whether it is frozen.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        matches!(self, Self::Paused { .. })
    }

    /// The first process, if there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Running { pid, .. } | Self::Paused { pid, .. } => Some(*pid),
            Self::Stopping { pid, .. } => *pid,
            _ => None,
        }
    }

    /// Docker's word for it: `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match self {
            Self::Created | Self::Starting { .. } => "created",
            Self::Running { .. } => "running",
            Self::Paused { .. } => "paused",
            Self::Stopping { pid: Some(_), .. } => "running",
            Self::Stopping { pid: None, .. } => "created",
            Self::Exited => "exited",
            Self::Backoff { .. } => "restarting",
            Self::Removing { .. } => "removing",
            Self::Dead { .. } => "dead",
        }
    }

    /// The phase's own name, for messages and snapshots.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting { .. } => "starting",
            Self::Running { .. } => "running",
            Self::Paused { .. } => "paused",
            Self::Stopping { .. } => "stopping",
            Self::Exited => "exited",
            Self::Backoff { .. } => "backoff",
            Self::Removing { .. } => "removing",
            Self::Dead { .. } => "dead",
        }
    }
}
