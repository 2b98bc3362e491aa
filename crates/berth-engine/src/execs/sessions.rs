//! The exec sessions that are known: running ones, and ended ones for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use berth_types::{ContainerId, ExecId};
use tokio::sync::watch;

use super::{ExecRequest, ExecView};
use crate::containers::announce;
use crate::containers::index::Index;
use crate::error::EngineError;
use crate::events::Events;
use crate::limits;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Created,
    Starting,
    Running { pid: u32 },
    Ended { pid: u32, code: i32 },
}

#[derive(Debug)]
struct Session {
    container: ContainerId,
    request: Arc<ExecRequest>,
    state: State,
    changed: Instant,
    ended: watch::Sender<Option<i32>>,
}

/// All sessions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sessions {
    sessions: Arc<Mutex<HashMap<String, Session>>>,
    events: Events,
    index: Index,
}

impl Sessions {
    /// No sessions yet.
    #[must_use]
    pub fn new(events: Events, index: Index) -> Self {
        Self {
            sessions: Arc::default(),
            events,
            index,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a session in.
    ///
    /// # Errors
    /// When the container has too many.
    pub fn insert(
        &self,
        id: &ExecId,
        container: &ContainerId,
        request: ExecRequest,
    ) -> Result<(), EngineError> {
        let mut sessions = self.lock();
        sessions.retain(|_, s| {
            !matches!(s.state, State::Ended { .. } | State::Created)
                || s.changed.elapsed() < limits::EXEC_KEPT
        });
        let count = sessions
            .values()
            .filter(|s| s.container == *container)
            .count();
        if count >= limits::EXECS_PER_CONTAINER {
            return Err(EngineError::failed(
                format!("create an exec session in container {container}"),
                berth_types::ErrorKind::ResourceExhausted,
                TooMany,
            ));
        }
        sessions.insert(
            id.as_str().to_owned(),
            Session {
                container: container.clone(),
                request: Arc::new(request),
                state: State::Created,
                changed: Instant::now(),
                ended: watch::Sender::new(None),
            },
        );
        Ok(())
    }

    /// Takes in a session that a monitor tells of after a restart of the daemon.
    pub fn adopt(&self, container: &ContainerId, id: &str, pid: u32) {
        self.lock().entry(id.to_owned()).or_insert_with(|| Session {
            container: container.clone(),
            request: Arc::new(ExecRequest::default()),
            state: State::Running { pid },
            changed: Instant::now(),
            ended: watch::Sender::new(None),
        });
    }

    /// Marks a session as being started, once.
    ///
    /// # Errors
    /// When there is none, or it was started before.
    pub fn begin(&self, id: &str) -> Result<(ContainerId, Arc<ExecRequest>), EngineError> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(id).ok_or_else(|| missing(id))?;
        match session.state {
            State::Created => {
                session.state = State::Starting;
                Ok((session.container.clone(), Arc::clone(&session.request)))
            }
            State::Ended { .. } => Err(EngineError::Conflict(format!(
                "exec command {id} has already run"
            ))),
            State::Starting | State::Running { .. } => Err(EngineError::Conflict(format!(
                "exec command {id} is already running"
            ))),
        }
    }

    /// The session's program runs.
    pub fn started(&self, id: &str, pid: u32) {
        if let Some(session) = self.lock().get_mut(id) {
            match &mut session.state {
                // Its end was told before its beginning.
                State::Ended { pid: known, .. } => *known = pid,
                state => *state = State::Running { pid },
            }
        }
    }

    /// The session could not be started.
    pub fn failed(&self, id: &str, code: i32) {
        if let Some(session) = self.lock().get_mut(id) {
            session.state = State::Ended { pid: 0, code };
            session.changed = Instant::now();
            session.ended.send_replace(Some(code));
        }
    }

    /// The session's program ended.
    pub fn ended(&self, id: &str, code: i32) {
        let container = {
            let mut sessions = self.lock();
            let Some(session) = sessions.get_mut(id) else {
                return;
            };
            let pid = match session.state {
                State::Running { pid } => pid,
                State::Ended { .. } => return,
                State::Created | State::Starting => 0,
            };
            session.state = State::Ended { pid, code };
            session.changed = Instant::now();
            session.ended.send_replace(Some(code));
            session.container.clone()
        };
        if let Ok(handle) = self.index.find(container.as_str()) {
            announce::of_view(
                &self.events,
                &handle.view(),
                "exec_die",
                &[("execID", id.to_owned()), ("exitCode", code.to_string())],
            );
        }
    }

    /// Tells of the end: the exit code once there is one.
    #[must_use]
    pub fn watch(&self, id: &str) -> Option<watch::Receiver<Option<i32>>> {
        self.lock().get(id).map(|s| s.ended.subscribe())
    }

    /// The container's run is over, and its sessions with it.
    pub fn container_ended(&self, container: &ContainerId) {
        let running: Vec<String> = self
            .lock()
            .iter()
            .filter(|(_, s)| {
                s.container == *container
                    && matches!(s.state, State::Running { .. } | State::Starting)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in running {
            self.ended(&id, 137);
        }
        self.lock()
            .retain(|_, s| s.container != *container || s.state != State::Created);
    }

    /// The container is gone.
    pub fn forget_container(&self, container: &ContainerId) {
        self.lock().retain(|_, s| s.container != *container);
    }

    /// Forgets a session that nobody will ask for.
    pub fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    /// Sessions of a container that have not ended.
    #[must_use]
    pub fn of_container(&self, container: &ContainerId) -> Vec<ExecId> {
        let mut ids: Vec<ExecId> = self
            .lock()
            .iter()
            .filter(|(_, s)| s.container == *container && !matches!(s.state, State::Ended { .. }))
            .filter_map(|(id, _)| ExecId::parse(id).ok())
            .collect();
        ids.sort();
        ids
    }

    /// A session as it is.
    ///
    /// # Errors
    /// When there is none.
    pub fn view(&self, id: &str) -> Result<ExecView, EngineError> {
        let sessions = self.lock();
        let session = sessions.get(id).ok_or_else(|| missing(id))?;
        let (running, pid, exit_code) = match session.state {
            State::Created => (false, 0, None),
            State::Starting => (true, 0, None),
            State::Running { pid } => (true, pid, None),
            State::Ended { pid, code } => (false, pid, Some(code)),
        };
        Ok(ExecView {
            id: ExecId::parse(id).map_err(|_| missing(id))?,
            container: session.container.clone(),
            request: Arc::clone(&session.request),
            running,
            pid,
            exit_code,
            can_remove: exit_code.is_some(),
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it has too many exec sessions")]
struct TooMany;

fn missing(id: &str) -> EngineError {
    EngineError::NotFound(format!(
        "No such exec instance: {}",
        id.chars().take(128).collect::<String>()
    ))
}
