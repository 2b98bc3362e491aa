//! The event loop, and the flow of bytes.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use berth_sys::cgroup::OomEvents;
use berth_types::Timestamp;

use super::backend::Backend;
use super::client::{Client, Input};
use super::link::Link;
use super::network::Network;
use super::poll::{Key, Poll, Readiness, Slab, Token};
use super::session::{Owner, Read, Session};
use super::setup::now;
use crate::error::{Failure, MonitorError};
use crate::limits;
use crate::log::{LogWriter, StreamKind};
use crate::protocol::{ExecStatus, FromMonitor, MonitorEvent, RunState, Status, Streams, VERSION};

/// What the set-up hands over.
pub(super) struct Parts {
    pub(super) directory: PathBuf,
    pub(super) id: String,
    pub(super) start: bool,
    pub(super) open_stdin: bool,
    pub(super) own_processes: bool,
    pub(super) lock: OwnedFd,
    pub(super) poll: Poll,
    pub(super) children: OwnedFd,
    pub(super) listener: OwnedFd,
    pub(super) backend: Backend,
    pub(super) sessions: Slab<Session>,
    pub(super) init: Key,
    pub(super) log: LogWriter,
    pub(super) oom: Option<OomEvents>,
    pub(super) notes: Vec<String>,
    pub(super) pid: i32,
    pub(super) network: Network,
}

pub(super) struct Monitor {
    pub(super) directory: PathBuf,
    pub(super) id: String,
    pub(super) notes: Vec<String>,
    pub(super) open_stdin: bool,
    /// All processes of the container die with its first one.
    pub(super) own_processes: bool,
    start_at_once: bool,

    pub(super) poll: Poll,
    pub(super) children: OwnedFd,
    pub(super) lock: Option<OwnedFd>,
    pub(super) listener: Option<OwnedFd>,
    pub(super) links: Slab<Link>,
    pub(super) clients: Slab<Client>,
    pub(super) sessions: Slab<Session>,
    pub(super) init: Key,
    pub(super) backend: Backend,
    pub(super) log: LogWriter,
    pub(super) oom: Option<OomEvents>,
    pub(super) network: Network,

    pub(super) state: RunState,
    pub(super) pid: i32,
    pub(super) started_at: Option<Timestamp>,
    pub(super) oom_killed: bool,
    pub(super) failure: Option<Failure>,
    /// Who waits for the outcome of a start that failed: answered when the record is written.
    pub(super) failed_start: Option<Option<(Key, u64)>>,
    pub(super) signal: Option<i32>,
    pub(super) finished_execs: VecDeque<ExecStatus>,
    /// Everything is written and told; only clients that have not read all are left.
    pub(super) lingering: bool,

    /// For reading; given back, with all else that is free, some time after the last use.
    buffer: Vec<u8>,
    tidy_at: Option<Instant>,
}

impl Monitor {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            directory: parts.directory,
            id: parts.id,
            notes: parts.notes,
            open_stdin: parts.open_stdin,
            own_processes: parts.own_processes,
            start_at_once: parts.start,
            poll: parts.poll,
            children: parts.children,
            lock: Some(parts.lock),
            listener: Some(parts.listener),
            links: Slab::new(),
            clients: Slab::new(),
            sessions: parts.sessions,
            init: parts.init,
            backend: parts.backend,
            log: parts.log,
            oom: parts.oom,
            network: parts.network,
            state: RunState::Created,
            pid: parts.pid,
            started_at: None,
            oom_killed: false,
            failure: None,
            failed_start: None,
            signal: None,
            finished_execs: VecDeque::new(),
            lingering: false,
            buffer: Vec::new(),
            // The set-up has left memory to give back.
            tidy_at: Some(Instant::now() + limits::BUFFER_KEEP),
        }
    }

    /// Takes up the connection of the launch: tells the outcome, after a start at once if that was asked for.
    /// Those who come with the launch are attached before.
    pub(super) fn adopt(
        &mut self,
        link: Link,
        clients: Vec<(Streams, OwnedFd)>,
    ) -> Result<(), MonitorError> {
        let key = self.links.next_key();
        self.poll.add(link.socket(), Token::Link(key))?;
        self.links.insert(link);
        for (streams, socket) in clients {
            self.attach(streams, Some(socket))?;
        }
        if self.start_at_once
            && let Err(error) = self.start()
        {
            self.start_failed(&error, None);
            return Ok(());
        }
        self.greet(key);
        Ok(())
    }

    fn greet(&mut self, key: Key) {
        let hello = FromMonitor::Hello {
            version: VERSION,
            status: Box::new(self.status()),
        };
        if let Some(link) = self.links.get_mut(key) {
            link.send(&hello);
        }
    }

    /// Serves until the container is over and everybody has got what is theirs.
    pub(super) fn run(&mut self) -> Result<(), MonitorError> {
        let mut events = Vec::new();
        loop {
            if self.is_over() {
                return Ok(());
            }
            let timeout = self.timeout();
            self.poll.wait(timeout, &mut events)?;
            for event in events.drain(..) {
                self.dispatch(event);
            }
            self.pump();
            self.keep_deadlines();
            if !self.lingering && self.can_finish() {
                self.finish();
            }
        }
    }

    fn is_over(&self) -> bool {
        self.lingering && self.clients.len() == 0
    }

    fn dispatch(&mut self, event: Readiness) {
        let Readiness {
            token,
            readable,
            writable,
            ending,
            hung_up,
        } = event;
        match token {
            Token::Listener => self.accept(),
            Token::Children | Token::Process(_) => self.reap_children(),
            Token::OutOfMemory => self.note_memory(),
            Token::Names => self.answer_names(),
            Token::Ports => self.forward_ports(),
            Token::Link(key) => {
                if let Some(link) = self.links.get_mut(key) {
                    link.ready(readable, writable, ending);
                    link.flush();
                }
                self.serve(key);
            }
            Token::Client(key) => {
                if let Some(client) = self.clients.get_mut(key) {
                    client.ready(readable, writable, ending, hung_up);
                }
            }
            Token::Output(key, stream) => {
                if let Some(session) = self.sessions.get_mut(key) {
                    session.output_ready(stream, readable, writable, ending);
                }
            }
            Token::Input(key) => {
                if let Some(session) = self.sessions.get_mut(key) {
                    session.input_ready(writable);
                }
            }
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        let Ok(socket) = rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC)
        else {
            return;
        };
        let trusted = rustix::net::sockopt::socket_peercred(&socket)
            .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid());
        if !trusted || self.links.len() >= limits::MAX_CONNECTIONS {
            return;
        }
        let key = self.links.next_key();
        if self.poll.add(&socket, Token::Link(key)).is_ok() {
            self.links.insert(Link::new(socket));
            self.greet(key);
        }
    }

    /// Moves what can be moved, one piece per stream, so that none starves the others.
    fn pump(&mut self) {
        for key in self.sessions.keys() {
            for stream in [StreamKind::Stdout, StreamKind::Stderr] {
                self.pump_output(key, stream);
            }
            self.pump_input(key);
        }
        for (_, client) in self.clients.iter_mut() {
            client.flush();
        }
        if self.log.has_queue() && !self.has_output() {
            self.log.write_queued();
        }
        self.sweep();
    }

    /// Removes clients and links that are done.
    fn sweep(&mut self) {
        let done: Vec<_> = self
            .clients
            .iter()
            .filter(|(_, client)| client.is_done())
            .map(|(key, _)| key)
            .collect();
        for key in done {
            self.clients.remove(key);
        }
        let dead: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| link.is_dead())
            .map(|(key, _)| key)
            .collect();
        for key in dead {
            self.links.remove(key);
        }
    }

    /// Whether a session's output must wait for a client. Once the process is over, what is left in its pipes is all
    /// there is, and is taken.
    fn is_held(&self, key: Key) -> bool {
        self.clients
            .iter()
            .any(|(_, client)| client.session == key && client.is_full())
    }

    fn can_read(&self, key: Key, session: &Session, stream: StreamKind) -> bool {
        session.has_output(stream) && (session.ended.is_some() || !self.is_held(key))
    }

    fn has_output(&self) -> bool {
        self.sessions.iter().any(|(key, session)| {
            self.can_read(key, session, StreamKind::Stdout)
                || self.can_read(key, session, StreamKind::Stderr)
        })
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.buffer);
        if buffer.len() < limits::READ_CHUNK {
            buffer = vec![0; limits::READ_CHUNK];
        }
        buffer
    }

    fn keep_buffer(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
        self.tidy_later();
    }

    /// Memory was used that an idle monitor does not need.
    pub(super) fn tidy_later(&mut self) {
        self.tidy_at = Some(Instant::now() + limits::BUFFER_KEEP);
    }

    /// Reads one piece of output and hands it on. False when there was nothing.
    pub(super) fn pump_output(&mut self, key: Key, stream: StreamKind) -> bool {
        let ready = self
            .sessions
            .iter()
            .any(|(candidate, session)| candidate == key && self.can_read(key, session, stream));
        if !ready {
            return false;
        }
        let mut buffer = self.take_buffer();
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        let logged = session.owner == Owner::Container;
        let moved = match session.read(stream, &mut buffer) {
            Read::Bytes(count) => {
                let data = &buffer[..count];
                for (_, client) in self
                    .clients
                    .iter_mut()
                    .filter(|(_, client)| client.session == key)
                {
                    client.send(stream, data);
                }
                if logged {
                    self.log.output(stream, data);
                }
                true
            }
            Read::Nothing => false,
            Read::End => {
                if logged {
                    self.log.end_of_stream(stream);
                }
                false
            }
        };
        self.keep_buffer(buffer);
        moved
    }

    fn pump_input(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(key)
            && session.can_write_input()
        {
            session.write_input();
        }
        let attached: Vec<_> = self
            .clients
            .iter()
            .filter(|(_, client)| client.session == key && client.has_input())
            .map(|(key, _)| key)
            .collect();
        for client_key in attached {
            let Some(session) = self.sessions.get_mut(key) else {
                return;
            };
            if !session.wants_input() {
                return;
            }
            let mut buffer = self.take_buffer();
            let (Some(client), Some(session)) =
                (self.clients.get_mut(client_key), self.sessions.get_mut(key))
            else {
                return;
            };
            match client.read(&mut buffer[..limits::STDIN_CHUNK]) {
                Input::Bytes(count) => session.give(&buffer[..count]),
                Input::Nothing => {}
                Input::End if session.has_terminal() || !session.close_with_client => {
                    // As in Docker: who has no more to say to a process that goes on listening is detached.
                    client.close_when_sent();
                }
                Input::End => session.end_input(),
            }
            self.keep_buffer(buffer);
        }
    }

    /// How long nothing has to be done.
    fn timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        let input_waits = self.sessions.iter().any(|(key, session)| {
            session.can_write_input()
                || (session.wants_input()
                    && self
                        .clients
                        .iter()
                        .any(|(_, client)| client.session == key && client.has_input()))
        });
        if input_waits
            || self.has_output()
            || self.log.has_queue()
            || self
                .clients
                .iter()
                .any(|(_, client)| client.can_flush() || client.is_done())
        {
            return Some(Duration::ZERO);
        }
        let drains = self
            .sessions
            .iter()
            .filter_map(|(_, session)| session.drain_until);
        let stalls = self
            .clients
            .iter()
            .filter_map(|(_, client)| client.deadline());
        drains
            .chain(stalls)
            .chain(self.tidy_at)
            .chain(self.network_deadline())
            .min()
            .map(|deadline| deadline.saturating_duration_since(now))
    }

    fn keep_deadlines(&mut self) {
        let now = Instant::now();
        for (_, client) in self.clients.iter_mut() {
            if client.deadline().is_some_and(|deadline| deadline <= now) {
                client.kill();
            }
        }
        if self.tidy_at.take_if(|at| *at <= now).is_some() {
            self.buffer = Vec::new();
            self.log.shrink();
            self.shrink_names();
            berth_sys::memory::trim();
        }
        self.keep_network_deadline(now);
        self.end_sessions(now);
    }

    pub(super) fn tell(&mut self, event: &MonitorEvent) {
        let message = FromMonitor::Event(event.clone());
        for (_, link) in self.links.iter_mut() {
            link.send(&message);
        }
    }

    pub(super) fn note_memory(&mut self) {
        let kills = self.oom.as_mut().map(OomEvents::take);
        match kills {
            Some(Ok(0)) | None => {}
            Some(Ok(_)) => {
                self.oom_killed = true;
                self.tell(&MonitorEvent::Oom { at: now() });
            }
            // A descriptor that cannot be emptied would keep us busy for ever.
            Some(Err(_)) => self.oom = None,
        }
    }

    pub(super) fn status(&self) -> Status {
        let running = self
            .sessions
            .iter()
            .filter_map(|(_, session)| match &session.owner {
                Owner::Container => None,
                Owner::Exec(id) => Some(ExecStatus {
                    id: id.clone(),
                    pid: session.pid,
                    ended: session.ended,
                }),
            });
        Status {
            id: self.id.clone(),
            state: self.state,
            pid: self.pid,
            monitor_pid: rustix::process::getpid().as_raw_nonzero().get(),
            started_at: self.started_at,
            oom_killed: self.oom_killed,
            notes: self.notes.clone(),
            execs: running.chain(self.finished_execs.iter().cloned()).collect(),
        }
    }
}
