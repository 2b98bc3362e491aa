//! The end of a run: what follows it.

use std::time::Duration;

use berth_types::Timestamp;

use super::{Draft, Durability, Effect, ExitFact, News, Refusal, Step};
use crate::containers::health::HealthStatus;
use crate::containers::phase::{AfterStop, Phase, StartCause};
use crate::containers::record::ContainerRecord;
use crate::containers::spec::RestartPolicy;
use crate::limits;

/// The exit code told where none is known, as Docker tells it.
pub(super) const CODE_UNKNOWN: i32 = 255;

/// Closes the present run and decides what follows: nothing, a restart, a removal.
pub(super) fn end_run(
    record: &ContainerRecord,
    exit: ExitFact,
    now: Timestamp,
) -> Result<Step, Refusal> {
    let mut draft = Draft::of(record);
    let ran = exit.at.since(record.last.started_at);
    draft.record.was_started = true;
    draft.record.last.finished_at = exit.at;
    draft.record.last.exit_code = exit.code;
    draft.record.last.oom_killed |= exit.out_of_memory;
    if let Some(pending) = draft.record.pending_resources.take() {
        // The run that they were for is over; the next one begins with them.
        draft.record.resources = pending;
    }
    if let Some(health) = &mut draft.record.health {
        health.status = HealthStatus::Unhealthy;
    }
    let draft = draft.effect(Effect::ReleaseRun).news(News::Died {
        code: exit.code,
        seconds: ran.as_secs(),
    });
    match &record.phase {
        Phase::Stopping { then, .. } => match then {
            AfterStop::Start => draft
                .news(News::Stopped)
                .starting(StartCause::Restart, now)
                .done(),
            AfterStop::Remove { volumes } => draft.removing(*volumes).done(),
            AfterStop::Stay => settle(draft.news(News::Stopped)),
        },
        _ if !record.restart_cancelled
            && wants_restart(
                record.restart,
                exit.code,
                record.stopped_by_user,
                record.restart_count,
            ) =>
        {
            let delay = restart_delay(record.backoff_milliseconds, ran);
            let mut draft = draft;
            draft.record.backoff_milliseconds =
                u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            draft.record.restart_count = draft.record.restart_count.saturating_add(1);
            draft
                .phase(Phase::Backoff {
                    due: now.plus(delay),
                })
                .done()
        }
        _ => settle(draft),
    }
}

/// Ended for good: stays, or goes if it was to.
fn settle(draft: Draft) -> Result<Step, Refusal> {
    if draft.record.spec.host.auto_remove {
        // A daemon that finds an earlier record of it comes to the same end: what was started and does not run
        // is removed.
        draft.vanishing().durability(Durability::Soon).done()
    } else {
        draft.phase(Phase::Exited).done()
    }
}

/// Whether the policy wants another run.
#[must_use]
pub fn wants_restart(
    policy: RestartPolicy,
    exit_code: i32,
    stopped_by_user: bool,
    restarts: u32,
) -> bool {
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always => true,
        RestartPolicy::UnlessStopped => !stopped_by_user,
        RestartPolicy::OnFailure { retries } => {
            exit_code != 0 && (retries == 0 || restarts < retries)
        }
    }
}

/// The pause before a restart: doubled each time up to a minute, from the beginning again after a long run.
#[must_use]
pub fn restart_delay(previous_milliseconds: u64, ran: Duration) -> Duration {
    if previous_milliseconds == 0 || ran >= limits::RESTART_RESET_AFTER {
        return limits::RESTART_DELAY_FIRST;
    }
    Duration::from_millis(previous_milliseconds.saturating_mul(2)).min(limits::RESTART_DELAY_MAX)
}
