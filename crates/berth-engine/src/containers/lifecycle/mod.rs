//! The life of a container as a pure function: `step(record, event, now)`.
//!
//! Owns every decision about phases. Performs nothing: it answers with the next record, the effects to
//! carry out in order, and the news to tell. Recovery feeds what it finds to the same function.
//!
//! Invariants (checked by the model test): a container that is gone has no process; effects that make
//! something are only asked for in `Starting`; every phase with a process ends by `Exited`; a refused event
//! changes nothing; `step` never asks for a start of what is being removed.

mod draft;
mod effect;
mod event;
mod exit;
mod observe;
mod outcome;
mod request;
#[cfg(test)]
mod table_tests;

#[cfg(test)]
pub(crate) use table_tests::events as table_events;

use berth_types::{ErrorKind, Signal, Timestamp};

use super::health::ProbeResult;
use super::phase::{Phase, StartCause};
use super::record::ContainerRecord;
use crate::limits;
use draft::Draft;

pub use effect::{Durability, Effect, News};
pub use event::{Event, ExitFact, Fact, NetworkChange, Observation, Outcome, Request, Timer};
pub use exit::{restart_delay, wants_restart};

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
        Event::Outcome(outcome) => outcome::apply(record, outcome, now),
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
                        kind: ErrorKind::Internal,
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
