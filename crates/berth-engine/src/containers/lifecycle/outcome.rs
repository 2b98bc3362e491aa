//! What an effect came to, and what follows it.

use berth_types::{ErrorKind, Timestamp};

use super::{Draft, Durability, Effect, NetworkChange, News, Outcome, Refusal, Step};
use crate::containers::health::HealthStatus;
use crate::containers::phase::{AfterStop, Phase, StartCause};
use crate::containers::record::ContainerRecord;

/// The step after an effect.
pub(super) fn apply(
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
        (Outcome::SignalFailed { message, kind, .. }, phase) if phase.is_running() => draft
            .news(News::KillFailed {
                message: message.clone(),
                kind: *kind,
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
        // Asked to end meanwhile, which what is frozen does not.
        (Outcome::Frozen, Phase::Stopping { pid: Some(_), .. }) => {
            let mut draft = draft.effect(Effect::Thaw).news(News::PauseFailed {
                message: format!("container {} is being stopped", record.id),
                kind: ErrorKind::Conflict,
            });
            draft.record.last.held_still = false;
            draft.durability(Durability::Soon).done()
        }
        (Outcome::FreezeFailed { message, kind }, _) => {
            let mut draft = draft.news(News::PauseFailed {
                message: message.clone(),
                kind: *kind,
            });
            draft.record.last.held_still = false;
            draft.durability(Durability::Soon).done()
        }
        (Outcome::Thawed, Phase::Paused { pid, since }) => {
            let phase = Phase::Running {
                pid: *pid,
                since: *since,
            };
            let mut draft = draft.phase(phase).news(News::Unpaused);
            draft.record.last.held_still = false;
            draft.durability(Durability::Earlier).done()
        }
        (Outcome::Thawed, Phase::Stopping { .. }) => draft
            .news(News::Unpaused)
            .durability(Durability::Soon)
            .done(),
        (Outcome::ThawFailed { message, kind }, _) => draft
            .news(News::UnpauseFailed {
                message: message.clone(),
                kind: *kind,
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
        (Outcome::LimitsFailed { message, kind }, _) if record.pending_resources.is_some() => {
            let mut draft = draft.news(News::UpdateFailed {
                message: message.clone(),
                kind: *kind,
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
