//! Carrying out what a daemon asks.

use std::os::fd::OwnedFd;

use serde::Deserialize;

use berth_types::ErrorKind;

use super::client::Client;
use super::link::Received;
use super::monitor::Monitor;
use super::poll::{Key, Token};
use super::session::{self, OurEnds, Owner, Session};
use super::setup::now;
use crate::error::{Failure, MonitorError};
use crate::launch::ConsoleSize;
use crate::limits;
use crate::protocol::{
    ExecRequest, FromDaemon, FromMonitor, Reply, Request, RunState, Streams, frame,
};

impl Monitor {
    /// Carries out every request that has arrived on a connection.
    pub(super) fn serve(&mut self, key: Key) {
        while let Some(received) = self.links.get_mut(key).and_then(|link| link.receive()) {
            self.handle(key, received);
        }
    }

    fn handle(&mut self, key: Key, received: Received) {
        let Received { body, descriptors } = received;
        self.tidy_later();
        let (number, result) = match frame::decode::<FromDaemon>(&body) {
            Ok(FromDaemon::Hello { .. } | FromDaemon::Launch { .. }) => return,
            Ok(FromDaemon::Request {
                number,
                request: Request::Start,
            }) => {
                match self.start() {
                    Ok(()) => (number, Ok(Reply::Done)),
                    // A container that is not `Created` stays as it is; one that failed to start is over.
                    Err(error @ MonitorError::State(_)) => (number, Err(error)),
                    Err(error) => return self.start_failed(&error, Some((key, number))),
                }
            }
            Ok(FromDaemon::Request { number, request }) => {
                let result = self.carry_out(request, descriptors);
                (number, result.map_err(|error| self.or_over(error)))
            }
            Err(error) => match number_of(&body) {
                Some(number) => return self.answer(key, number, Err(unknown(&error))),
                None => return,
            },
        };
        self.answer(key, number, result.map_err(|error| error.to_failure()));
    }

    pub(super) fn answer(&mut self, key: Key, number: u64, result: Result<Reply, Failure>) {
        if let Some(link) = self.links.get_mut(key) {
            link.send(&FromMonitor::Answer { number, result });
        }
    }

    fn carry_out(
        &mut self,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Reply, MonitorError> {
        let request = match request {
            // The only one with several descriptors.
            Request::Network { change } if self.state != RunState::Exited => {
                self.change_network(*change, descriptors)?;
                return Ok(Reply::Done);
            }
            request => request,
        };
        let stream = descriptors.into_iter().next();
        match request {
            Request::Status => return Ok(Reply::Status(Box::new(self.status()))),
            // Its last output is still to be had.
            Request::Attach { streams } => {
                return self.attach(streams, stream).map(|()| Reply::Done);
            }
            _ => {}
        }
        if self.state == RunState::Exited {
            return Err(self.over());
        }
        match request {
            // Served by the caller or above.
            Request::Start | Request::Status | Request::Attach { .. } | Request::Network { .. } => {
            }
            Request::Kill { signal, all } => self.backend.kill(signal, all)?,
            Request::Pause => {
                if self.state != RunState::Running {
                    return Err(MonitorError::State(format!(
                        "container {} does not run",
                        self.id
                    )));
                }
                self.backend.pause()?;
                self.state = RunState::Paused;
            }
            Request::Resume => {
                if self.state != RunState::Paused {
                    return Err(MonitorError::State(format!(
                        "container {} is not paused",
                        self.id
                    )));
                }
                self.backend.resume()?;
                self.state = RunState::Running;
            }
            Request::Update { resources } => {
                return self
                    .backend
                    .update(&resources)
                    .map(|notes| Reply::Updated { notes });
            }
            Request::Resize { exec, size } => self.resize(exec.as_deref(), size)?,
            Request::Exec { exec } => {
                return self
                    .exec(*exec, stream)
                    .map(|pid| Reply::ExecStarted { pid });
            }
            Request::ExecKill { exec, signal } => {
                let key = self.find_exec(&exec)?;
                if let Some(session) = self.sessions.get_mut(key) {
                    berth_sys::process::send_signal(&session.pidfd, signal)?;
                }
            }
            Request::Processes => {
                return self
                    .backend
                    .processes()
                    .map(|pids| Reply::Processes { pids });
            }
        }
        Ok(Reply::Done)
    }

    fn over(&self) -> MonitorError {
        MonitorError::Over {
            id: self.id.clone(),
        }
    }

    /// Why a request failed: whatever it says, it is that the container's first process has ended where it has. Its end
    /// may be known to the kernel before it is known here.
    fn or_over(&self, error: MonitorError) -> MonitorError {
        let init = self.sessions.get(self.init);
        let has_ended =
            init.is_some_and(|init| berth_sys::process::has_ended(&init.pidfd).unwrap_or(false));
        if has_ended && error.start_failure().is_none() {
            self.over()
        } else {
            error
        }
    }

    /// Executes the program.
    pub(super) fn start(&mut self) -> Result<(), MonitorError> {
        if self.state != RunState::Created {
            return Err(MonitorError::State(format!(
                "container {} was started already",
                self.id
            )));
        }
        self.backend.start()?;
        self.started_at = Some(now());
        self.state = RunState::Running;
        Ok(())
    }

    fn resize(&mut self, exec: Option<&str>, size: ConsoleSize) -> Result<(), MonitorError> {
        let key = match exec {
            Some(exec) => self.find_exec(exec)?,
            None => self.init,
        };
        match self.sessions.get_mut(key) {
            Some(session) => session.resize(size),
            None => Ok(()),
        }
    }

    fn find_exec(&self, id: &str) -> Result<Key, MonitorError> {
        self.sessions
            .iter()
            .find(|(_, session)| {
                session.ended.is_none() && matches!(&session.owner, Owner::Exec(exec) if exec == id)
            })
            .map(|(key, _)| key)
            .ok_or_else(|| MonitorError::State(format!("exec {id} is not running")))
    }

    pub(super) fn attach(
        &mut self,
        streams: Streams,
        stream: Option<OwnedFd>,
    ) -> Result<(), MonitorError> {
        let stream = stream.ok_or_else(|| {
            MonitorError::Protocol("an attach request came without a stream".into())
        })?;
        if self.lingering {
            return Err(MonitorError::State(format!(
                "container {} is not running",
                self.id
            )));
        }
        // Input that nobody will read is not asked for, so that its end means nothing either.
        let streams = Streams {
            stdin: streams.stdin && self.open_stdin,
            ..streams
        };
        self.add_client(self.init, stream, streams)
    }

    fn add_client(
        &mut self,
        session: Key,
        socket: OwnedFd,
        streams: Streams,
    ) -> Result<(), MonitorError> {
        if self.clients.len() >= limits::MAX_CLIENTS {
            return Err(MonitorError::State(format!(
                "{} streams are attached to the container, which is the limit",
                limits::MAX_CLIENTS
            )));
        }
        let raw = self
            .sessions
            .get_mut(session)
            .is_some_and(|session| session.has_terminal());
        let key = self.clients.next_key();
        let client = Client::new(session, socket, streams, raw);
        self.poll.add(client.socket(), Token::Client(key))?;
        self.clients.insert(client);
        Ok(())
    }

    fn exec(&mut self, request: ExecRequest, stream: Option<OwnedFd>) -> Result<i32, MonitorError> {
        if self.state != RunState::Running {
            return Err(MonitorError::State(match self.state {
                RunState::Paused => {
                    format!(
                        "Container {} is paused, unpause the container before exec",
                        self.id
                    )
                }
                _ => format!("container {} is not running", self.id),
            }));
        }
        if self.sessions.len() > limits::MAX_EXECS {
            return Err(MonitorError::State(format!(
                "{} exec sessions run in the container, which is the limit",
                limits::MAX_EXECS
            )));
        }
        if self.find_exec(&request.id).is_ok() {
            return Err(MonitorError::State(format!(
                "exec {} runs already",
                request.id
            )));
        }
        let terminal = request.process.terminal().unwrap_or(false);
        let (ends, ours) = if terminal {
            (None, OurEnds::default())
        } else {
            let stdin = request.streams.stdin && stream.is_some();
            let (ends, ours) = session::make_pipes(stdin, stream.is_some())?;
            (Some(ends), ours)
        };
        let size = request.process.console_size();
        let made = self.backend.exec(request.process, ends)?;
        if let (Some(console), Some(size)) = (&made.console, size) {
            let cut = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
            let size = berth_sys::terminal::WindowSize {
                rows: cut(size.height()),
                columns: cut(size.width()),
            };
            // A size is a wish; a program can run without.
            let _ = berth_sys::terminal::set_window_size(console, size);
        }
        let pid = made.pid;
        let key = self.sessions.next_key();
        let mut session = Session::new(Owner::Exec(request.id), pid, made.pidfd, true);
        let watched = session.watch(&self.poll, key, ours, made.console);
        // In the list whatever happens: it is our child, and will be reaped.
        self.sessions.insert(session);
        watched?;
        if let Some(stream) = stream {
            self.add_client(key, stream, request.streams)?;
        }
        Ok(pid)
    }
}

/// The number of a request that could not be understood.
fn number_of(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Envelope {
        request: Numbered,
    }
    #[derive(Deserialize)]
    struct Numbered {
        number: u64,
    }
    serde_json::from_slice::<Envelope>(body)
        .ok()
        .map(|envelope| envelope.request.number)
}

fn unknown(error: &MonitorError) -> Failure {
    Failure {
        kind: ErrorKind::NotImplemented,
        ..error.to_failure()
    }
}
