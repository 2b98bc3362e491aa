//! Ends: of children, of sessions, of the container, of the monitor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use berth_sys::process::{ExitStatus, ReapTarget};

use super::monitor::Monitor;
use super::poll::Key;
use super::session::Owner;
use super::setup::now;
use crate::error::MonitorError;
use crate::launch::SOCKET_FILE;
use crate::limits;
use crate::log::StreamKind;
use crate::protocol::{ExecStatus, FromMonitor, MonitorEvent, RunState};
use crate::record::{ExecRecord, ExitRecord};

/// Pieces of output read at once from a process that has ended: a pipe holds 16 pages unless someone made it larger.
const DRAIN_PIECES: usize = 64;
/// How long a daemon may take to read the last messages.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Monitor {
    /// Reaps every child that has ended.
    pub(super) fn reap_children(&mut self) {
        // Only says that there is something; one signal may stand for many children.
        while matches!(
            berth_sys::signal::read_descriptor(&self.children),
            Ok(Some(_))
        ) {}
        // No child at all is an error too.
        while let Ok(Some(ended)) = berth_sys::process::reap(ReapTarget::Any, true) {
            let success = ended.status == ExitStatus::Exited(0);
            if self.log.child_ended(ended.pid.unsigned_abs(), success) {
                continue;
            }
            let session = self
                .sessions
                .iter()
                .find(|(_, session)| session.pid == ended.pid && session.ended.is_none())
                .map(|(key, _)| key);
            if let Some(key) = session {
                self.process_ended(key, ended.status);
            }
        }
    }

    fn process_ended(&mut self, key: Key, status: ExitStatus) {
        let record = ExecRecord {
            exit_code: status.code(),
            finished_at: now(),
        };
        let is_container = key == self.init;
        if is_container {
            self.container_ended(status);
        }
        if let Some(session) = self.sessions.get_mut(key) {
            session.ended = Some(record);
            session.drain_until = Some(Instant::now() + limits::DRAIN_GRACE);
            session.wake_outputs();
        }
        if is_container && self.own_processes {
            // Everybody of the container is dead: nothing is written any more but by strangers who hold its pipes.
            let until = Instant::now() + limits::DRAIN_GRACE_DEAD;
            for (_, session) in self.sessions.iter_mut() {
                session.drain_until = Some(until);
            }
        }
        for stream in [StreamKind::Stdout, StreamKind::Stderr] {
            for _ in 0..DRAIN_PIECES {
                if !self.pump_output(key, stream) {
                    break;
                }
            }
        }
    }

    fn container_ended(&mut self, status: ExitStatus) {
        self.state = RunState::Exited;
        if let ExitStatus::Signaled(signal) = status {
            self.signal = Some(signal);
        }
        self.note_memory();
        // The event may come later than the death it caused.
        let kills = self
            .backend
            .cgroup()
            .and_then(|cgroup| cgroup.oom_count().ok());
        if kills.is_some_and(|kills| kills > 0) && !self.oom_killed {
            self.oom_killed = true;
            self.tell(&MonitorEvent::Oom { at: now() });
        }
        if !self.own_processes {
            // They share the host's process namespace and would go on without the container.
            let _ = self.backend.kill(9, true);
            for (_, session) in self.sessions.iter() {
                let _ = berth_sys::process::send_signal(&session.pidfd, 9);
            }
        }
    }

    /// The program could not be executed. The answer is given when the record is written.
    pub(super) fn start_failed(&mut self, error: &MonitorError, asked: Option<(Key, u64)>) {
        self.failure = Some(error.to_failure());
        self.failed_start = Some(asked);
        // Usually dead by now; harmless if so.
        let _ = self.backend.kill(9, true);
    }

    /// The event loop cannot serve: ends the container, and with it the monitor.
    pub(super) fn abandon(&mut self, error: &MonitorError) {
        self.failure = Some(error.to_failure());
        let _ = self.backend.kill(9, true);
        let pidfd = self
            .sessions
            .get_mut(self.init)
            .and_then(|session| session.pidfd.try_clone().ok());
        if let Some(pidfd) = pidfd
            && matches!(
                berth_sys::process::wait_for_end(&pidfd, limits::DRAIN_GRACE),
                Ok(true)
            )
        {
            self.reap_children();
        }
        self.end_sessions(Instant::now() + limits::DRAIN_GRACE);
        self.finish();
    }

    /// Ends sessions whose process has ended and whose output is read, or was waited for long enough.
    pub(super) fn end_sessions(&mut self, now: Instant) {
        for key in self.sessions.keys() {
            let Some(session) = self.sessions.get_mut(key) else {
                continue;
            };
            let Some(record) = session.ended else {
                continue;
            };
            if session.is_open() {
                if session.drain_until.is_none_or(|until| until > now) {
                    continue;
                }
                for stream in [StreamKind::Stdout, StreamKind::Stderr] {
                    if session.close_output(stream) && key == self.init {
                        self.log.end_of_stream(stream);
                    }
                }
            }
            session.drain_until = None;
            let owner = session.owner.clone();
            if let Owner::Exec(id) = owner {
                let pid = session.pid;
                self.sessions.remove(key);
                self.exec_ended(key, id, pid, record);
            }
        }
    }

    fn exec_ended(&mut self, key: Key, id: String, pid: i32, record: ExecRecord) {
        if self.finished_execs.len() >= limits::MAX_FINISHED_EXECS {
            self.finished_execs.pop_front();
        }
        self.finished_execs.push_back(ExecStatus {
            id: id.clone(),
            pid,
            ended: Some(record),
        });
        // Before the end of the stream, at which clients ask for the code.
        self.tell(&MonitorEvent::ExecExited {
            exec: id,
            exit_code: record.exit_code,
            at: record.finished_at,
        });
        self.close_clients(key);
    }

    fn close_clients(&mut self, session: Key) {
        for (_, client) in self
            .clients
            .iter_mut()
            .filter(|(_, client)| client.session == session)
        {
            client.close_when_sent();
            client.flush();
        }
    }

    /// Whether the container is over, its output read, and every exec session ended.
    pub(super) fn can_finish(&mut self) -> bool {
        let only_container = self.sessions.len() == 1;
        let over = self
            .sessions
            .get_mut(self.init)
            .is_none_or(|session| session.ended.is_some() && !session.is_open());
        only_container && over
    }

    /// Leaves the record, tells it, cleans up, and gives the directory free.
    pub(super) fn finish(&mut self) {
        for stream in [StreamKind::Stdout, StreamKind::Stderr] {
            self.log.end_of_stream(stream);
        }
        self.log.finish();
        let record = self.record();
        self.leave_network();
        // A full /run is no reason to keep the exit from those who are connected.
        let _ = record.write(&self.directory);
        self.answer_failed_start(&record);
        self.tell(&MonitorEvent::Exited(Box::new(record)));
        self.close_clients(self.init);
        self.oom = None;
        if let Some(message) = self.backend.delete() {
            self.tell(&MonitorEvent::LeftBehind { message });
        }
        let _ = berth_sys::fs::remove_file(&self.directory.join(SOCKET_FILE));
        self.listener = None;
        self.say_last_words();
        self.lock = None;
        for key in self.links.keys() {
            self.links.remove(key);
        }
        self.lingering = true;
    }

    fn record(&mut self) -> ExitRecord {
        let ended = self
            .sessions
            .get_mut(self.init)
            .and_then(|session| session.ended);
        let ended = ended.unwrap_or_else(|| ExecRecord {
            exit_code: 255,
            finished_at: now(),
        });
        let execs: BTreeMap<_, _> = self
            .finished_execs
            .iter()
            .filter_map(|exec| Some((exec.id.clone(), exec.ended?)))
            .collect();
        ExitRecord {
            version: ExitRecord::VERSION,
            exit_code: self
                .failure
                .as_ref()
                .map_or(ended.exit_code, |failure| failure.exit_code()),
            signal: self.signal.filter(|_| self.failure.is_none()),
            oom_killed: self.oom_killed,
            pid: self.pid,
            started_at: self.started_at,
            finished_at: ended.finished_at,
            error: self.failure.clone(),
            execs,
        }
    }

    fn answer_failed_start(&mut self, record: &ExitRecord) {
        let (Some(asked), Some(failure)) = (self.failed_start.take(), record.error.clone()) else {
            return;
        };
        match asked {
            Some((key, number)) => self.answer(key, number, Err(failure)),
            // On the connection of the launch, which has not had its first message yet.
            None => {
                for (_, link) in self.links.iter_mut() {
                    link.send(&FromMonitor::LaunchFailed(failure.clone()));
                }
            }
        }
    }

    /// Gives daemons a moment to take what is queued for them.
    fn say_last_words(&mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        let mut events = Vec::new();
        while self.links.iter().any(|(_, link)| link.has_backlog()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.poll.wait(Some(left), &mut events).is_err() {
                return;
            }
            for event in events.drain(..) {
                if let super::poll::Token::Link(key) = event.token
                    && let Some(link) = self.links.get_mut(key)
                {
                    link.ready(event.readable, event.writable, event.ending);
                    link.flush();
                }
            }
        }
    }
}
