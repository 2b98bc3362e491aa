//! What the daemon finds when it starts, as ordinary steps.
//!
//! The record may be older than the world: phases that a look at the world brings back are not waited for
//! when they are saved. So any observation can meet any phase.

use berth_types::{ErrorKind, Timestamp};

use super::exit::{self, CODE_UNKNOWN};
use super::{Draft, Durability, Effect, ExitFact, News, Observation, Outcome, Refusal, Step};
use crate::containers::phase::{Phase, StartCause};
use crate::containers::record::ContainerRecord;

pub(super) fn apply(
    record: &ContainerRecord,
    observation: Observation,
    now: Timestamp,
) -> Result<Step, Refusal> {
    match &record.phase {
        Phase::Removing { volumes, .. } => Draft::of(record)
            .effect(Effect::ReleaseRun)
            .effect(Effect::Remove { volumes: *volumes })
            .done(),
        Phase::Dead { .. } => match observation {
            Observation::Nothing => Err(Refusal::Stale),
            _ => Draft::of(record).effect(Effect::ReleaseRun).done(),
        },
        _ => match observation {
            Observation::Running { pid, paused } => running(record, pid, paused, now),
            Observation::Exited(exit) => exited(record, exit, now),
            Observation::Prepared | Observation::Nothing => absent(record, observation, now),
        },
    }
}

fn running(
    record: &ContainerRecord,
    pid: u32,
    paused: bool,
    now: Timestamp,
) -> Result<Step, Refusal> {
    let draft = Draft::of(record);
    let pending = record.pending_resources.clone();
    let limits = |draft: Draft| match &pending {
        Some(resources) => draft.effect(Effect::ApplyLimits(Box::new(resources.clone()))),
        None => draft,
    };
    match &record.phase {
        Phase::Stopping { pid: None, .. } => {
            let ready = Outcome::Ready { pid, at: now };
            let mut step = super::outcome::apply(record, &ready, now)?;
            if paused {
                step.effects.push(Effect::Thaw);
            }
            Ok(step)
        }
        Phase::Stopping {
            since,
            signal,
            deadline,
            killed,
            then,
            ..
        } => {
            let phase = Phase::Stopping {
                pid: Some(pid),
                since: *since,
                signal: *signal,
                deadline: *deadline,
                killed: *killed,
                then: *then,
            };
            let draft = draft.phase(phase).effect(Effect::Signal(*signal));
            if paused {
                draft.effect(Effect::Thaw).done()
            } else {
                draft.done()
            }
        }
        Phase::Running { since, .. } | Phase::Paused { since, .. } => {
            let since = *since;
            let mut draft = draft.durability(Durability::Soon);
            if !paused {
                draft.record.last.held_still = false;
                return limits(draft.phase(Phase::Running { pid, since })).done();
            }
            let mut draft = draft.phase(Phase::Paused { pid, since });
            if record.last.held_still {
                // What it was frozen for ended with the daemon that did it.
                draft = draft.effect(Effect::Thaw);
            }
            limits(draft).done()
        }
        // The start was under way, or it was and the record of it was not written any more.
        _ => {
            let since = match &record.phase {
                Phase::Starting { since, .. } => *since,
                _ => now,
            };
            let draft = draft.running(pid, since).news(News::Started);
            let draft = if paused {
                draft.phase(Phase::Paused { pid, since })
            } else {
                draft
            };
            limits(draft).done()
        }
    }
}

fn exited(record: &ContainerRecord, exit: ExitFact, now: Timestamp) -> Result<Step, Refusal> {
    let accounted = matches!(
        record.phase,
        Phase::Exited | Phase::Backoff { .. } | Phase::Created
    ) && record.last.finished_at == exit.at;
    if accounted {
        return Draft::of(record)
            .effect(Effect::ReleaseRun)
            .durability(Durability::Soon)
            .done();
    }
    if record.phase.is_running() {
        return exit::end_run(record, exit, now);
    }
    // A run of which the record knows only that it was wanted, if that.
    let mut run = record.clone();
    run.last.started_at = match &record.phase {
        Phase::Starting { since, .. } => *since,
        Phase::Stopping { since, .. } => *since,
        _ => exit.at,
    };
    run.last.oom_killed = false;
    run.last.error.clear();
    exit::end_run(&run, exit, now)
}

fn absent(
    record: &ContainerRecord,
    observation: Observation,
    now: Timestamp,
) -> Result<Step, Refusal> {
    let release = |step: Result<Step, Refusal>| match (observation, step) {
        (Observation::Prepared, Ok(mut step)) => {
            if !step.effects.contains(&Effect::ReleaseRun) {
                step.effects.insert(0, Effect::ReleaseRun);
            }
            Ok(step)
        }
        (_, step) => step,
    };
    match &record.phase {
        Phase::Starting { .. } | Phase::Stopping { pid: None, .. } => {
            release(super::outcome::apply(
                record,
                &Outcome::StartFailed {
                    exit_code: 128,
                    message: "the daemon ended while it was starting the container".to_owned(),
                    kind: ErrorKind::Unavailable,
                },
                now,
            ))
        }
        phase if phase.is_running() => {
            // The machine went down under it; its monitor would have written an exit record otherwise.
            exit::end_run(
                record,
                ExitFact {
                    code: CODE_UNKNOWN,
                    out_of_memory: false,
                    at: now,
                },
                now,
            )
        }
        // Ended, to be removed, and the removal was not begun.
        Phase::Exited if record.spec.host.auto_remove => {
            release(Draft::of(record).vanishing().done())
        }
        _ => match observation {
            Observation::Prepared => Draft::of(record)
                .effect(Effect::ReleaseRun)
                .durability(Durability::Soon)
                .done(),
            _ => Err(Refusal::Stale),
        },
    }
}

/// Starts what the policy wants to run whenever the daemon does.
pub(super) fn daemon_started(record: &ContainerRecord, now: Timestamp) -> Result<Step, Refusal> {
    match &record.phase {
        Phase::Exited | Phase::Created
            if record.was_started
                && exit::wants_restart(
                    record.restart,
                    record.last.exit_code,
                    record.stopped_by_user,
                    record.restart_count,
                ) =>
        {
            Draft::of(record)
                .starting(StartCause::Boot, now)
                .durability(Durability::Soon)
                .done()
        }
        Phase::Dead { volumes, .. } => Draft::of(record).removing(*volumes).done(),
        _ => Err(Refusal::Stale),
    }
}
