//! Exec sessions: further programs in a running container.
//!
//! A session belongs to its container's monitor and is remembered while the daemon runs; it is not stored,
//! as Docker's are not.

mod sessions;

use std::sync::Arc;

use berth_types::{ContainerId, ErrorKind, ExecId};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::containers::announce;
use crate::containers::launcher::{ExecPlan, Streams};
use crate::containers::oci;
use crate::containers::owner::Environment;
use crate::containers::phase::Phase;
use crate::containers::record::ContainerRecord;
use crate::containers::requests::TerminalSize;
use crate::containers::surroundings;
use crate::containers::view::ContainerView;
use crate::error::EngineError;
use crate::random;

pub use sessions::Sessions;

/// What an exec session is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// User (and group); empty for the container's.
    pub user: String,
    /// Directory; empty for the container's.
    pub working_dir: String,
    /// Further variables.
    pub env: Vec<String>,
    /// All capabilities, no system call filter.
    pub privileged: bool,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// Whether standard input is sent.
    pub attach_stdin: bool,
    /// Whether standard output is wanted.
    pub attach_stdout: bool,
    /// Whether standard error is wanted.
    pub attach_stderr: bool,
    /// Keys that leave it, as written; kept for whoever copies the bytes.
    pub detach_keys: String,
    /// First size of its terminal.
    pub console_size: Option<TerminalSize>,
}

/// How a session is started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExecStartOptions {
    /// Do not attach.
    pub detach: bool,
    /// Must agree with the request where the caller knows it.
    pub terminal: bool,
    /// First size of its terminal, over that of the request.
    pub console_size: Option<TerminalSize>,
}

/// A session at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecView {
    /// Its id.
    pub id: ExecId,
    /// Its container.
    pub container: ContainerId,
    /// What it was to run.
    pub request: Arc<ExecRequest>,
    /// Whether it runs.
    pub running: bool,
    /// Process id on the host; zero before the start.
    pub pid: u32,
    /// Its exit code, once it ended.
    pub exit_code: Option<i32>,
    /// Whether it may be removed from memory.
    pub can_remove: bool,
}

/// A session that runs.
#[derive(Debug)]
pub struct ExecStarted {
    /// Whether it has a terminal (raw stream) or not (frames).
    pub terminal: bool,
    /// Its bytes; `None` when detached.
    pub stream: Option<UnixStream>,
}

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Execs {
    environment: Environment,
}

/// A program whose output is read by the engine itself.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) id: ExecId,
    pub(crate) stream: Option<UnixStream>,
    pub(crate) ended: watch::Receiver<Option<i32>>,
}

/// Whether a further program can run in the container now.
fn check_running(view: &ContainerView) -> Result<(), EngineError> {
    match &view.phase {
        Phase::Running { .. } | Phase::Stopping { pid: Some(_), .. } => Ok(()),
        Phase::Paused { .. } => Err(EngineError::Conflict(format!(
            "container {} is paused, unpause the container before exec",
            view.id
        ))),
        Phase::Backoff { .. } => Err(EngineError::Conflict(format!(
            "container {} is restarting, wait until the container is running",
            view.id
        ))),
        _ => Err(EngineError::Conflict(format!(
            "container {} is not running",
            view.id
        ))),
    }
}

/// The record as far as a process needs it.
fn record_of(view: &ContainerView) -> ContainerRecord {
    let mut record = ContainerRecord::new(
        view.id.clone(),
        view.name.clone(),
        view.created,
        (*view.spec).clone(),
    );
    record.resources = view.resources.clone();
    record
}

fn words(request: &ExecRequest) -> String {
    request.command.join(" ")
}

fn announce_exec(environment: &Environment, view: &ContainerView, action: &str, id: &str) {
    announce::of_view(
        &environment.events,
        view,
        action,
        &[("execID", id.to_owned())],
    );
}

fn create_session(
    environment: &Environment,
    view: &ContainerView,
    request: ExecRequest,
) -> Result<ExecId, EngineError> {
    let id = ExecId::from_random(random::bytes()?);
    let action = format!("exec_create: {}", words(&request));
    environment.sessions.insert(&id, &view.id, request)?;
    announce_exec(environment, view, &action, id.as_str());
    Ok(id)
}

async fn start_session(
    environment: &Environment,
    view: &ContainerView,
    id: &ExecId,
    request: &ExecRequest,
    streams: Streams,
) -> Result<Option<UnixStream>, EngineError> {
    let action = format!("exec_start: {}", words(request));
    announce_exec(environment, view, &action, id.as_str());
    let plan = {
        let (view, request, host) = (
            record_of(view),
            request.clone(),
            Arc::clone(&environment.host),
        );
        let pid = environment.index.find(view.id.as_str())?.view().pid();
        tokio::task::spawn_blocking(move || {
            let user = if request.user.is_empty() {
                &view.spec.config.user
            } else {
                &request.user
            };
            let account =
                surroundings::running_account(&view.id, pid, user, &view.spec.host.group_add)?;
            oci::exec_process(&view, &host.features, &request, &account)
        })
        .await
        .map_err(|e| EngineError::Internal(format!("a defect in the engine: {e}")))?
    };
    let started = match plan {
        Ok(process) => {
            let plan = ExecPlan {
                id: id.clone(),
                process,
                streams,
            };
            environment
                .launcher
                .exec(&view.id, plan)
                .await
                .map_err(|error| match error.kind {
                    ErrorKind::Conflict => EngineError::Conflict(error.message),
                    kind => EngineError::Start {
                        message: error.message,
                        exit_code: error.exit_code,
                        kind,
                    },
                })
        }
        Err(error @ EngineError::Conflict(_)) => Err(error),
        // The session is there and cannot be run: Docker's 126.
        Err(error) => Err(EngineError::Start {
            message: error.full_text(),
            exit_code: 126,
            kind: error.kind(),
        }),
    };
    match started {
        Ok(run) => {
            environment.sessions.started(id.as_str(), run.pid);
            Ok(run.stream)
        }
        Err(error) => {
            let code = match &error {
                EngineError::Start { exit_code, .. } => *exit_code,
                _ => 126,
            };
            environment.sessions.failed(id.as_str(), code);
            Err(error)
        }
    }
}

/// Runs a program in a container for the engine itself, with both outputs on one stream of frames.
pub(crate) async fn run_captured(
    environment: &Environment,
    view: &ContainerView,
    request: ExecRequest,
) -> Result<Captured, EngineError> {
    let id = create_session(environment, view, request)?;
    let (_, request) = environment.sessions.begin(id.as_str())?;
    let ended = environment
        .sessions
        .watch(id.as_str())
        .ok_or_else(|| EngineError::Internal("the exec session is gone".to_owned()))?;
    let streams = Streams {
        stdin: false,
        stdout: true,
        stderr: true,
    };
    let stream = start_session(environment, view, &id, &request, streams).await?;
    Ok(Captured { id, stream, ended })
}

impl Execs {
    pub(crate) fn new(environment: Environment) -> Self {
        Self { environment }
    }

    /// Makes a session in a running container.
    ///
    /// # Errors
    /// When the container does not run, or the request makes no sense.
    pub async fn create(
        &self,
        container: &str,
        request: ExecRequest,
    ) -> Result<ExecId, EngineError> {
        if request.command.first().is_none_or(String::is_empty) {
            return Err(EngineError::Invalid("No exec command specified".to_owned()));
        }
        if !request.working_dir.is_empty() && !request.working_dir.starts_with('/') {
            return Err(EngineError::Invalid(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                request.working_dir
            )));
        }
        let view = self.environment.index.find(container)?.view();
        check_running(&view)?;
        create_session(&self.environment, &view, request)
    }

    /// Runs it. Returns after its program runs, or could not be run (`Start` with 126 or 127).
    ///
    /// # Errors
    /// When there is no such session, it was started before, or its program cannot be run.
    pub async fn start(
        &self,
        id: &str,
        options: ExecStartOptions,
    ) -> Result<ExecStarted, EngineError> {
        let session = self.environment.sessions.view(id)?;
        let handle = self.environment.index.find(session.container.as_str())?;
        let view = handle.view();
        check_running(&view)?;
        let (_, request) = self.environment.sessions.begin(id)?;
        let mut request = (*request).clone();
        if options.console_size.is_some() {
            request.console_size = options.console_size;
        }
        let streams = if options.detach {
            Streams::default()
        } else {
            Streams {
                stdin: request.attach_stdin,
                stdout: request.attach_stdout,
                stderr: request.attach_stderr,
            }
        };
        let environment = self.environment.clone();
        let id = session.id.clone();
        let terminal = request.terminal;
        // In a task of its own: a caller that hangs up does not leave half a start.
        let started = tokio::spawn(async move {
            start_session(&environment, &view, &id, &request, streams).await
        })
        .await
        .map_err(|e| EngineError::Internal(format!("a defect in the engine: {e}")))??;
        Ok(ExecStarted {
            terminal,
            stream: started,
        })
    }

    /// A session as it is, also before its start.
    ///
    /// # Errors
    /// When there is none.
    pub fn inspect(&self, id: &str) -> Result<ExecView, EngineError> {
        self.environment.sessions.view(id)
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// When there is no such session, or it does not run.
    pub async fn resize(&self, id: &str, size: TerminalSize) -> Result<(), EngineError> {
        let session = self.environment.sessions.view(id)?;
        if !session.running {
            return Err(EngineError::Conflict(format!(
                "exec command {id} is not running"
            )));
        }
        self.environment
            .launcher
            .resize(&session.container, Some(session.id.as_str()), size)
            .await
            .map_err(EngineError::from)
    }

    /// Tells listeners that a client left a session by its detach keys.
    pub fn announce_detach(&self, id: &str) {
        if let Ok(session) = self.environment.sessions.view(id)
            && let Ok(handle) = self.environment.index.find(session.container.as_str())
        {
            announce_exec(&self.environment, &handle.view(), "exec_detach", id);
        }
    }
}
