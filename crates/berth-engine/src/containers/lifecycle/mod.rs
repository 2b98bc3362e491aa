//! The life of a container as a pure function: `step(record, event, now)`.
//!
//! Owns every decision about phases. Performs nothing: it answers with the next record, the effects to
//! carry out in order, and the news to tell. Recovery feeds what it finds to the same function.
//!
//! Invariants (checked by the model test): a container that is gone has no process; effects that make
//! something are only asked for in `Starting`; every phase with a process ends by `Exited`; a refused event
//! changes nothing; `step` never asks for a start of what is being removed.

mod exit;
mod observe;
mod request;
#[cfg(test)]
mod table_tests;

#[cfg(test)]
pub(crate) use table_tests::events as table_events;

use berth_types::{ErrorKind, Signal, Timestamp};

use super::health::{HealthStatus, ProbeResult};
use super::networking::Attachment;
use super::phase::{AfterStop, Phase, StartCause};
use super::record::ContainerRecord;
use super::requests::{RemoveOptions, StopOptions, UpdateRequest};
use super::spec::Resources;
use crate::limits;

pub use exit::{restart_delay, wants_restart};

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
    },
    /// All processes run on.
    Thawed,
    /// They do not.
    ThawFailed {
        /// Why.
        message: String,
    },
    /// New limits hold.
    LimitsApplied,
    /// They do not.
    LimitsFailed {
        /// Why.
        message: String,
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
    },
    /// The run is over.
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
    },
    /// Thawed.
    Unpaused,
    /// Not thawed.
    UnpauseFailed {
        /// Why.
        message: String,
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

/// The answer to an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The next record; `None` when the container is gone.
    pub record: Option<ContainerRecord>,
    /// What is to be done.
    pub effects: Vec<Effect>,
    /// What is told.
    pub news: Vec<News>,
    /// What has to be on disk first.
    pub durability: Durability,
}

/// Why an event changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The state does not allow it.
    Conflict(String),
    /// It is so already.
    Unchanged(String),
    /// The request is wrong.
    Invalid(String),
    /// It may not be done.
    Forbidden(String),
    /// A transition is under way; ask again when it is over.
    Busy,
    /// The event says nothing new in this phase.
    Stale,
}

/// The next state of a container, or why there is none.
///
/// # Errors
/// A [`Refusal`]; the record is then as it was and nothing is to be done.
pub fn step(record: &ContainerRecord, event: &Event, now: Timestamp) -> Result<Step, Refusal> {
    match event {
        Event::Request(request) => request::apply(record, request, now),
        Event::Outcome(outcome) => outcome_step(record, outcome, now),
        Event::Fact(fact) => fact_step(record, *fact, now),
        Event::Timer(timer) => timer_step(record, *timer, now),
        Event::Probe(result) => probe_step(record, result),
        Event::Observed(observation) => observe::apply(record, *observation, now),
        Event::DaemonStarted => observe::daemon_started(record, now),
    }
}

/// Which timer a phase needs, and when.
#[must_use]
pub fn timer(record: &ContainerRecord) -> Option<(Timer, Timestamp)> {
    match &record.phase {
        Phase::Stopping {
            pid: Some(_),
            deadline: Some(deadline),
            ..
        } => Some((Timer::Grace, *deadline)),
        Phase::Backoff { due } => Some((Timer::Backoff, *due)),
        _ => None,
    }
}

/// A step under construction.
struct Draft {
    record: ContainerRecord,
    effects: Vec<Effect>,
    news: Vec<News>,
    durability: Durability,
}

impl Draft {
    fn of(record: &ContainerRecord) -> Self {
        Self {
            record: record.clone(),
            effects: Vec::new(),
            news: Vec::new(),
            durability: Durability::Now,
        }
    }

    fn phase(mut self, phase: Phase) -> Self {
        self.record.phase = phase;
        self
    }

    fn effect(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }

    fn news(mut self, news: News) -> Self {
        self.news.push(news);
        self
    }

    fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    #[allow(clippy::unnecessary_wraps)]
    fn done(self) -> Result<Step, Refusal> {
        Ok(Step {
            record: Some(self.record),
            effects: self.effects,
            news: self.news,
            durability: self.durability,
        })
    }

    /// Towards a run.
    fn starting(mut self, cause: StartCause, now: Timestamp) -> Self {
        self.record.phase = Phase::Starting { since: now, cause };
        self.record.restart_cancelled = false;
        self.record.pending_resources = None;
        self.record.last.error.clear();
        if matches!(cause, StartCause::User | StartCause::Restart) {
            self.record.stopped_by_user = false;
            self.record.restart_count = 0;
            self.record.backoff_milliseconds = 0;
        }
        self.effect(Effect::Start)
    }

    /// The program runs from here on.
    fn running(mut self, pid: u32, at: Timestamp) -> Self {
        self.record.was_started = true;
        self.record.last = super::record::LastRun {
            started_at: at,
            finished_at: self.record.last.finished_at,
            ..Default::default()
        };
        self.record.health = self
            .record
            .spec
            .config
            .healthcheck
            .as_ref()
            .filter(|h| h.enabled())
            .map(|_| super::health::Health::starting());
        self.record.phase = Phase::Running { pid, since: at };
        self
    }

    /// Towards its removal, of which those who asked are told when it is done.
    fn removing(mut self, volumes: bool) -> Self {
        self.record.phase = Phase::Removing {
            volumes,
            unseen: false,
        };
        self.effect(Effect::Remove { volumes })
    }

    /// Gone, since it was to go by itself: nobody has to wait until its files are. From the saved intent, or from any
    /// earlier record of a container that removes itself, a daemon comes to the same end.
    fn vanishing(mut self) -> Self {
        self.record.phase = Phase::Removing {
            volumes: true,
            unseen: true,
        };
        self.news(News::Destroyed)
            .effect(Effect::Remove { volumes: true })
    }
}

fn outcome_step(
    record: &ContainerRecord,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<Step, Refusal> {
    let draft = Draft::of(record);
    match (outcome, &record.phase) {
        (Outcome::Ready { pid, at }, Phase::Starting { cause, .. }) => {
            let cause = *cause;
            let mut draft = draft.running(*pid, *at).news(News::Started);
            if cause == StartCause::Restart {
                draft = draft.news(News::Restarted);
            }
            draft.durability(Durability::Earlier).done()
        }
        (
            Outcome::Ready { pid, at },
            Phase::Stopping {
                pid: None,
                signal,
                killed,
                then,
                deadline,
                since,
            },
        ) => {
            let grace = deadline.map(|d| d.since(*since));
            let (signal, killed, then) = (*signal, *killed, *then);
            draft
                .running(*pid, *at)
                .phase(Phase::Stopping {
                    pid: Some(*pid),
                    since: *at,
                    signal,
                    deadline: grace.map(|grace| at.plus(grace)),
                    killed,
                    then,
                })
                .effect(Effect::Signal(signal))
                .news(News::Started)
                .durability(Durability::Earlier)
                .done()
        }
        (
            Outcome::StartFailed {
                exit_code,
                message,
                kind,
            },
            Phase::Starting { .. } | Phase::Stopping { pid: None, .. },
        ) => {
            let mut draft = draft.news(News::StartFailed {
                exit_code: *exit_code,
                message: message.clone(),
                kind: *kind,
            });
            draft.record.last.exit_code = *exit_code;
            draft.record.last.error.clone_from(message);
            draft.record.last.oom_killed = false;
            match &record.phase {
                Phase::Stopping {
                    then: AfterStop::Remove { volumes },
                    ..
                } => draft.removing(*volumes).done(),
                _ if record.spec.host.auto_remove => draft.vanishing().done(),
                _ => draft.phase(Phase::Exited).done(),
            }
        }
        (Outcome::SignalSent { signal }, phase) if phase.is_running() => draft
            .news(News::Killed { signal: *signal })
            .durability(Durability::Earlier)
            .done(),
        (Outcome::SignalFailed { message, .. }, phase) if phase.is_running() => draft
            .news(News::KillFailed {
                message: message.clone(),
            })
            .durability(Durability::Soon)
            .done(),
        (Outcome::Frozen, Phase::Running { pid, since }) => {
            let phase = Phase::Paused {
                pid: *pid,
                since: *since,
            };
            let mut draft = draft.phase(phase).news(News::Paused);
            if let Some(health) = &mut draft.record.health {
                // Docker shows a container whose probing has stopped as unhealthy, without an event.
                health.status = HealthStatus::Unhealthy;
            }
            draft.durability(Durability::Earlier).done()
        }
        (Outcome::FreezeFailed { message }, _) => draft
            .news(News::PauseFailed {
                message: message.clone(),
            })
            .durability(Durability::Soon)
            .done(),
        (Outcome::Thawed, Phase::Paused { pid, since }) => {
            let phase = Phase::Running {
                pid: *pid,
                since: *since,
            };
            draft
                .phase(phase)
                .news(News::Unpaused)
                .durability(Durability::Earlier)
                .done()
        }
        (Outcome::Thawed, Phase::Stopping { .. }) => draft
            .news(News::Unpaused)
            .durability(Durability::Soon)
            .done(),
        (Outcome::ThawFailed { message }, _) => draft
            .news(News::UnpauseFailed {
                message: message.clone(),
            })
            .durability(Durability::Soon)
            .done(),
        (Outcome::LimitsApplied, _) if record.pending_resources.is_some() => {
            let mut draft = draft.news(News::Updated);
            if let Some(resources) = draft.record.pending_resources.take() {
                draft.record.resources = resources;
            }
            draft.done()
        }
        (Outcome::LimitsFailed { message }, _) if record.pending_resources.is_some() => {
            let mut draft = draft.news(News::UpdateFailed {
                message: message.clone(),
            });
            draft.record.pending_resources = None;
            draft.done()
        }
        (Outcome::NetworksChanged(change), _) => draft
            .news(News::NetworksChanged {
                network: change.network().to_owned(),
            })
            .done(),
        (
            Outcome::NetworksFailed {
                change,
                message,
                kind,
            },
            _,
        ) => {
            let mut draft = draft.news(News::NetworksFailed {
                network: change.network().to_owned(),
                message: message.clone(),
                kind: *kind,
            });
            let networks = &mut draft.record.networks;
            match change {
                NetworkChange::Join { network } => {
                    networks.shift_remove(network);
                }
                NetworkChange::Leave {
                    network,
                    attachment,
                } => {
                    networks.insert(network.clone(), (**attachment).clone());
                }
            }
            draft.done()
        }
        // The intent is on disk, and a daemon that finds it does the same again, unseen.
        (Outcome::Removed, Phase::Removing { unseen, .. }) => Ok(Step {
            record: None,
            effects: Vec::new(),
            news: if *unseen {
                Vec::new()
            } else {
                vec![News::Destroyed]
            },
            durability: Durability::Soon,
        }),
        (Outcome::RemovalFailed { reason }, Phase::Removing { volumes, .. }) => {
            let phase = Phase::Dead {
                volumes: *volumes,
                reason: reason.clone(),
            };
            draft
                .phase(phase)
                .news(News::RemovalFailed {
                    reason: reason.clone(),
                })
                .done()
        }
        _ => {
            let _ = now;
            Err(Refusal::Stale)
        }
    }
}

fn fact_step(record: &ContainerRecord, fact: Fact, now: Timestamp) -> Result<Step, Refusal> {
    match (fact, &record.phase) {
        (Fact::Exited(exit), phase) if phase.is_running() => exit::end_run(record, exit, now),
        (Fact::OutOfMemory, phase) if phase.is_running() => {
            let mut draft = Draft::of(record).news(News::OutOfMemory);
            draft.record.last.oom_killed = true;
            draft.durability(Durability::Soon).done()
        }
        (Fact::MonitorLost, phase) if phase.is_running() => {
            let mut lost = record.clone();
            lost.last.error = "its monitor ended unexpectedly".to_owned();
            exit::end_run(
                &lost,
                ExitFact {
                    code: exit::CODE_UNKNOWN,
                    out_of_memory: false,
                    at: now,
                },
                now,
            )
        }
        _ => Err(Refusal::Stale),
    }
}

fn timer_step(record: &ContainerRecord, timer: Timer, now: Timestamp) -> Result<Step, Refusal> {
    match (timer, &record.phase) {
        (
            Timer::Grace,
            Phase::Stopping {
                pid: Some(pid),
                since,
                signal,
                deadline: Some(deadline),
                killed,
                then,
            },
        ) if now >= *deadline => {
            let draft = Draft::of(record);
            if *killed {
                let phase = Phase::Stopping {
                    pid: Some(*pid),
                    since: *since,
                    signal: *signal,
                    deadline: None,
                    killed: true,
                    then: *then,
                };
                return draft
                    .phase(phase)
                    .news(News::KillFailed {
                        message: "tried to kill container, but did not receive an exit event"
                            .to_owned(),
                    })
                    .durability(Durability::Soon)
                    .done();
            }
            let phase = Phase::Stopping {
                pid: Some(*pid),
                since: *since,
                signal: Signal::KILL,
                deadline: Some(now.plus(limits::KILL_WAIT)),
                killed: true,
                then: *then,
            };
            draft
                .phase(phase)
                .effect(Effect::Signal(Signal::KILL))
                .durability(Durability::Soon)
                .done()
        }
        (Timer::Backoff, Phase::Backoff { due }) if now >= *due => Draft::of(record)
            .starting(StartCause::Policy, now)
            .durability(Durability::Soon)
            .done(),
        (Timer::Removal, Phase::Dead { volumes, .. }) => {
            Draft::of(record).removing(*volumes).done()
        }
        _ => Err(Refusal::Stale),
    }
}

fn probe_step(record: &ContainerRecord, result: &ProbeResult) -> Result<Step, Refusal> {
    if !matches!(record.phase, Phase::Running { .. }) {
        return Err(Refusal::Stale);
    }
    let mut draft = Draft::of(record).durability(Durability::Soon);
    let started = record.last.started_at;
    let Some(settings) = record.spec.config.healthcheck.as_ref() else {
        return Err(Refusal::Stale);
    };
    let Some(health) = draft.record.health.as_mut() else {
        return Err(Refusal::Stale);
    };
    if let Some(status) = health.record(settings, started, result.clone()) {
        draft.news.push(News::Health(status));
    }
    draft.done()
}
