//! What stands between decisions and the world: the trait that carries effects out.
//!
//! Two implementations: [`Monitors`](super::monitors::Monitors) with real monitor processes, and the simulated
//! world of the model test. Every operation is idempotent: asked again after a crash it ends in the same state.

use std::fmt::Debug;
use std::sync::Arc;

use berth_types::{ErrorKind, ExecId, Signal, Timestamp};
use futures_util::future::BoxFuture;
use oci_spec::runtime::Process;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::clients::PendingClients;
use super::lifecycle::{Fact, NetworkChange, Observation};
use super::record::ContainerRecord;
use super::requests::TerminalSize;
use super::spec::Resources;
use crate::networks::RunNetwork;
use berth_types::ContainerId;

/// What a run tells, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunFact {
    /// Something for the lifecycle.
    Life(Fact),
    /// An exec session ended.
    ExecExited {
        /// Which.
        exec: String,
        /// Its exit code.
        code: i32,
    },
}

/// A run that has begun.
#[derive(Debug)]
pub struct Run {
    /// First process, as the host numbers it.
    pub pid: u32,
    /// Since when.
    pub at: Timestamp,
    /// What was clamped, one sentence each.
    pub notes: Vec<String>,
    /// What it has in networks.
    pub network: Option<Arc<RunNetwork>>,
    /// What it tells from now on.
    pub facts: mpsc::Receiver<RunFact>,
}

/// Why an operation on a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchError {
    /// Attempt, object and causes.
    pub message: String,
    /// For callers.
    pub kind: ErrorKind,
    /// 126 or 127 when the program itself could not be run, else 128.
    pub exit_code: i32,
}

impl LaunchError {
    /// A failure that is not the program's.
    pub fn new(message: impl Into<String>, kind: ErrorKind) -> Self {
        Self {
            message: message.into(),
            kind,
            exit_code: 128,
        }
    }
}

impl From<LaunchError> for crate::error::EngineError {
    fn from(error: LaunchError) -> Self {
        match error.kind {
            ErrorKind::Conflict => Self::Conflict(error.message),
            ErrorKind::NotFound => Self::NotFound(error.message),
            ErrorKind::InvalidArgument => Self::Invalid(error.message),
            kind => Self::Start {
                message: error.message,
                exit_code: error.exit_code,
                kind,
            },
        }
    }
}

/// What was found of a container.
#[derive(Debug)]
pub struct Found {
    /// What.
    pub observation: Observation,
    /// What was clamped at its start.
    pub notes: Vec<String>,
    /// What it has in networks.
    pub network: Option<Arc<RunNetwork>>,
    /// What its run tells from now on, if there is one.
    pub facts: Option<mpsc::Receiver<RunFact>>,
    /// Exec sessions that still run, with their processes.
    pub execs: Vec<(String, u32)>,
}

/// Which streams are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// A further program in a running container.
#[derive(Debug, Clone)]
pub struct ExecPlan {
    /// The session.
    pub id: ExecId,
    /// What to run, resolved.
    pub process: Process,
    /// What its stream carries.
    pub streams: Streams,
}

/// A session that runs.
#[derive(Debug)]
pub struct ExecRun {
    /// Its process on the host.
    pub pid: u32,
    /// Its bytes, where any were wanted.
    pub stream: Option<UnixStream>,
}

/// Carries effects out.
pub trait Launcher: Send + Sync + Debug + 'static {
    /// Prepares everything, connects pending clients, runs the program. On failure nothing of the attempt is left.
    fn start<'a>(
        &'a self,
        record: &'a ContainerRecord,
        clients: &'a PendingClients,
    ) -> BoxFuture<'a, Result<Run, LaunchError>>;

    /// Sends a signal to the first process.
    fn signal<'a>(
        &'a self,
        id: &'a ContainerId,
        signal: Signal,
    ) -> BoxFuture<'a, Result<(), LaunchError>>;

    /// Freezes all processes. Frozen already is fine.
    fn freeze<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), LaunchError>>;

    /// Thaws all processes. Not frozen is fine.
    fn thaw<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), LaunchError>>;

    /// Changes limits; answers with one sentence for each that could not be followed.
    fn apply_limits<'a>(
        &'a self,
        record: &'a ContainerRecord,
        resources: &'a Resources,
    ) -> BoxFuture<'a, Result<Vec<String>, LaunchError>>;

    /// Joins or leaves a network, as the record says already; answers with what the run has then.
    fn change_networks<'a>(
        &'a self,
        record: &'a ContainerRecord,
        change: &'a NetworkChange,
    ) -> BoxFuture<'a, Result<Option<Arc<RunNetwork>>, LaunchError>>;

    /// Releases what a run held, ending it if it has not ended.
    fn release<'a>(&'a self, record: &'a ContainerRecord)
    -> BoxFuture<'a, Result<(), LaunchError>>;

    /// Removes everything the container owns, a run included. Nothing there is fine.
    fn remove<'a>(
        &'a self,
        record: &'a ContainerRecord,
        volumes: bool,
    ) -> BoxFuture<'a, Result<(), LaunchError>>;

    /// Looks what there is of a container, and takes up what runs.
    fn observe<'a>(&'a self, record: &'a ContainerRecord) -> BoxFuture<'a, Found>;

    /// Attaches to a running container.
    fn attach<'a>(
        &'a self,
        id: &'a ContainerId,
        streams: Streams,
    ) -> BoxFuture<'a, Result<UnixStream, LaunchError>>;

    /// Runs a further program; returns when it runs, or cannot.
    fn exec<'a>(
        &'a self,
        id: &'a ContainerId,
        plan: ExecPlan,
    ) -> BoxFuture<'a, Result<ExecRun, LaunchError>>;

    /// Sends a signal to an exec session's process.
    fn signal_exec<'a>(
        &'a self,
        id: &'a ContainerId,
        exec: &'a str,
        signal: Signal,
    ) -> BoxFuture<'a, Result<(), LaunchError>>;

    /// Sets the size of a terminal: the container's, or an exec session's.
    fn resize<'a>(
        &'a self,
        id: &'a ContainerId,
        exec: Option<&'a str>,
        size: TerminalSize,
    ) -> BoxFuture<'a, Result<(), LaunchError>>;

    /// All processes, as the host numbers them.
    fn processes<'a>(&'a self, id: &'a ContainerId)
    -> BoxFuture<'a, Result<Vec<u32>, LaunchError>>;
}
