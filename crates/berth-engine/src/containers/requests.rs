//! What callers ask of containers, and what they get back, beside create.

use berth_types::{ContainerId, Signal, Timestamp};
use bytes::Bytes;
use indexmap::IndexMap;

use super::spec::{Resources, RestartPolicy};
use crate::filters::Filters;

/// Answer to a create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The new container.
    pub id: ContainerId,
    /// What was not done as asked, one sentence each.
    pub warnings: Vec<String>,
}

/// How to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// Instead of the container's stop signal.
    pub signal: Option<Signal>,
    /// Seconds until SIGKILL instead of the container's; negative for never.
    pub timeout: Option<i64>,
}

/// How to remove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
    /// Remove its anonymous volumes too.
    pub volumes: bool,
}

/// When a wait is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// As soon as it does not run; at once if so already.
    #[default]
    NotRunning,
    /// The next time it ends.
    NextExit,
    /// When it is removed.
    Removed,
}

/// What a wait ends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitOutcome {
    /// The exit code.
    pub code: i64,
    /// Why the code says nothing (a start that failed, a removal that failed).
    pub error: Option<String>,
}

/// Height and width of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// Which streams an attach wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Send standard input.
    pub stdin: bool,
    /// Receive standard output.
    pub stdout: bool,
    /// Receive standard error.
    pub stderr: bool,
    /// Receive what was logged before, first.
    pub logs: bool,
    /// Receive (and send) what comes from now on.
    pub stream: bool,
}

/// Which part of a log is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Go on with what is logged from now on.
    pub follow: bool,
    /// Only entries at or after this.
    pub since: Option<Timestamp>,
    /// Only entries at or before this.
    pub until: Option<Timestamp>,
    /// Only the last entries; `None` for all.
    pub tail: Option<usize>,
    /// Whether the attributes of an entry are wanted (`details`).
    pub details: bool,
}

/// Which of the two outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it came from.
    pub stream: OutputStream,
    /// When.
    pub at: Timestamp,
    /// The bytes, with the newline that ended them, if one did.
    pub line: Bytes,
    /// Labels and variables chosen by the log options, sorted.
    pub attributes: Vec<(String, String)>,
}

/// A process table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessTable {
    /// Names of the columns.
    pub titles: Vec<String>,
    /// One row per process.
    pub processes: Vec<Vec<String>>,
}

/// Settings that can change while a container runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateRequest {
    /// Limits: fields that are `None` or empty stay as they are.
    pub resources: Resources,
    /// Restart policy; `None` to keep it.
    pub restart: Option<RestartPolicy>,
}

/// Which containers a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Also those that do not run.
    pub all: bool,
    /// At most so many, newest first, whether they run or not; zero for no bound.
    pub limit: usize,
    /// Filters.
    pub filters: Filters,
}

/// Bytes a container occupies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerSize {
    /// In its own writable layer.
    pub writable: u64,
    /// Together with its image.
    pub root: u64,
}

/// What a prune removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids or references.
    pub removed: Vec<String>,
    /// Bytes given back.
    pub reclaimed: u64,
}

/// Attributes of an actor in events.
pub type Attributes = IndexMap<String, String>;
