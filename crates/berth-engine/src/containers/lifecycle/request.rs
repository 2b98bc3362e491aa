//! What each request does in each phase, with Docker's sentences for what it does not.

use std::time::Duration;

use berth_types::{Signal, Timestamp};

use super::{Draft, Durability, Effect, NetworkChange, News, Refusal, Request, Step};
use crate::containers::networking::Attachment;
use crate::containers::phase::{AfterStop, Phase, StartCause};
use crate::containers::record::ContainerRecord;
use crate::containers::requests::{RemoveOptions, StopOptions, UpdateRequest};
use crate::limits;

pub(super) fn apply(
    record: &ContainerRecord,
    request: &Request,
    now: Timestamp,
) -> Result<Step, Refusal> {
    match request {
        Request::Start => start(record, now),
        Request::Stop(options) => stop(record, *options, AfterStop::Stay, now),
        Request::Restart(options) => restart(record, *options, now),
        Request::Kill(signal) => kill(record, *signal, now),
        Request::Pause => pause(record, false),
        Request::HoldStill => pause(record, true),
        Request::Unpause => unpause(record),
        Request::Rename(name) => rename(record, name),
        Request::Connect {
            network,
            attachment,
        } => connect(record, network, attachment),
        Request::Disconnect { network } => disconnect(record, network),
        Request::Update(update) => change(record, update),
        Request::Remove(options) => remove(record, *options, now),
    }
}

fn conflict<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Conflict(text.into()))
}

fn unchanged<T>(text: &str) -> Result<T, Refusal> {
    Err(Refusal::Unchanged(text.to_owned()))
}

fn not_running<T>(record: &ContainerRecord) -> Result<T, Refusal> {
    conflict(format!("container {} is not running", record.id))
}

fn start(record: &ContainerRecord, now: Timestamp) -> Result<Step, Refusal> {
    match &record.phase {
        Phase::Created | Phase::Exited => Draft::of(record)
            .starting(StartCause::User, now)
            .durability(Durability::Soon)
            .done(),
        // Under way already: whoever asks is told with the others.
        Phase::Starting { .. } => Draft::of(record).durability(Durability::Soon).done(),
        Phase::Paused { .. } => conflict("cannot start a paused container, try unpause instead"),
        Phase::Running { .. } | Phase::Stopping { .. } | Phase::Backoff { .. } => {
            unchanged("container is already running")
        }
        Phase::Removing { .. } | Phase::Dead { .. } => {
            conflict("container is marked for removal and cannot be started")
        }
    }
}

/// Time from the stop signal to SIGKILL; `None` for never.
fn grace(record: &ContainerRecord, options: StopOptions) -> Option<Duration> {
    let seconds = options
        .timeout
        .or(record.spec.config.stop_timeout)
        .unwrap_or(limits::STOP_TIMEOUT_DEFAULT);
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

fn stop(
    record: &ContainerRecord,
    options: StopOptions,
    then: AfterStop,
    now: Timestamp,
) -> Result<Step, Refusal> {
    let signal = options.signal.unwrap_or_else(|| record.spec.stop_signal());
    let deadline = grace(record, options).map(|grace| now.plus(grace));
    let mut draft = Draft::of(record).durability(Durability::Earlier);
    draft.record.stopped_by_user = true;
    draft.record.restart_cancelled = true;
    let stopping = |pid, since, then| Phase::Stopping {
        pid,
        since,
        signal,
        deadline,
        killed: signal == Signal::KILL,
        then,
    };
    match &record.phase {
        Phase::Created | Phase::Exited | Phase::Removing { .. } | Phase::Dead { .. } => {
            unchanged("container is already stopped")
        }
        Phase::Starting { .. } => draft.phase(stopping(None, now, then)).done(),
        Phase::Running { pid, since } => draft
            .phase(stopping(Some(*pid), *since, then))
            .effect(Effect::Signal(signal))
            .done(),
        Phase::Paused { pid, since } => draft
            .phase(stopping(Some(*pid), *since, then))
            .effect(Effect::Signal(signal))
            .effect(Effect::Thaw)
            .done(),
        Phase::Stopping {
            pid,
            since,
            deadline: earlier,
            killed,
            then: planned,
            signal: sent,
        } => {
            // A removal that was promised stays; else the latest wish counts.
            let then = match planned {
                AfterStop::Remove { .. } => *planned,
                _ => then,
            };
            if *killed {
                let phase = Phase::Stopping {
                    pid: *pid,
                    since: *since,
                    signal: *sent,
                    deadline: *earlier,
                    killed: true,
                    then,
                };
                return draft.phase(phase).done();
            }
            let deadline = match (*earlier, deadline) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            let phase = Phase::Stopping {
                pid: *pid,
                since: *since,
                signal,
                deadline,
                killed: signal == Signal::KILL,
                then,
            };
            let draft = draft.phase(phase);
            if pid.is_some() {
                draft.effect(Effect::Signal(signal)).done()
            } else {
                draft.done()
            }
        }
        Phase::Backoff { .. } => match then {
            AfterStop::Start => draft.starting(StartCause::Restart, now).done(),
            _ => {
                let draft = draft.news(News::Stopped).durability(Durability::Now);
                if record.spec.host.auto_remove {
                    draft.removing(true).done()
                } else {
                    draft.phase(Phase::Exited).done()
                }
            }
        },
    }
}

fn restart(
    record: &ContainerRecord,
    options: StopOptions,
    now: Timestamp,
) -> Result<Step, Refusal> {
    match &record.phase {
        Phase::Created | Phase::Exited | Phase::Backoff { .. } => Draft::of(record)
            .starting(StartCause::Restart, now)
            .durability(Durability::Soon)
            .done(),
        Phase::Starting { .. } => Err(Refusal::Busy),
        Phase::Removing { .. } | Phase::Dead { .. } => {
            conflict("container is marked for removal and cannot be started")
        }
        Phase::Stopping {
            then: AfterStop::Remove { .. },
            ..
        } => conflict("container is marked for removal and cannot be started"),
        Phase::Running { .. } | Phase::Paused { .. } | Phase::Stopping { .. } => {
            let mut step = stop(record, options, AfterStop::Start, now)?;
            if let Some(next) = &mut step.record {
                // A restart is not a stop: if the daemon dies in the middle, policy brings it back.
                next.stopped_by_user = record.stopped_by_user;
            }
            Ok(step)
        }
    }
}

fn kill(record: &ContainerRecord, signal: Signal, now: Timestamp) -> Result<Step, Refusal> {
    // With a stop signal of its own, only that one and SIGKILL mean "end"; without, every signal does.
    let means_end = signal == Signal::KILL
        || record.spec.config.stop_signal.is_empty()
        || record.spec.stop_signal() == signal;
    let mut draft = Draft::of(record).durability(Durability::Earlier);
    draft.record.stopped_by_user = true;
    draft.record.restart_cancelled |= means_end;
    match &record.phase {
        Phase::Created | Phase::Exited | Phase::Removing { .. } | Phase::Dead { .. } => {
            not_running(record)
        }
        Phase::Starting { .. } if signal == Signal::KILL => draft
            .phase(Phase::Stopping {
                pid: None,
                since: now,
                signal,
                deadline: Some(now.plus(limits::KILL_WAIT)),
                killed: true,
                then: AfterStop::Stay,
            })
            .done(),
        Phase::Starting { .. } | Phase::Stopping { pid: None, .. } => Err(Refusal::Busy),
        Phase::Running { .. } | Phase::Stopping { .. } => {
            draft.effect(Effect::Signal(signal)).done()
        }
        Phase::Paused { .. } => {
            let draft = draft.effect(Effect::Signal(signal));
            if means_end {
                draft.effect(Effect::Thaw).done()
            } else {
                draft.done()
            }
        }
        Phase::Backoff { .. } if means_end => {
            let draft = draft
                .news(News::Killed { signal })
                .durability(Durability::Now);
            if record.spec.host.auto_remove {
                draft.removing(true).done()
            } else {
                draft.phase(Phase::Exited).done()
            }
        }
        Phase::Backoff { .. } => draft.news(News::Killed { signal }).done(),
    }
}

fn pause(record: &ContainerRecord, briefly: bool) -> Result<Step, Refusal> {
    match &record.phase {
        Phase::Running { .. } => {
            let mut draft = Draft::of(record).effect(Effect::Freeze);
            draft.record.last.held_still = briefly;
            // Nobody but this record knows that it is to be thawed.
            draft
                .durability(match briefly {
                    true => Durability::Now,
                    false => Durability::Soon,
                })
                .done()
        }
        Phase::Starting { .. } => Err(Refusal::Busy),
        Phase::Paused { .. } => conflict(format!("container {} is already paused", record.id)),
        Phase::Backoff { .. } => conflict(format!(
            "container {} is restarting, wait until the container is running",
            record.id
        )),
        Phase::Stopping { .. } => conflict(format!("container {} is being stopped", record.id)),
        Phase::Created | Phase::Exited | Phase::Removing { .. } | Phase::Dead { .. } => {
            not_running(record)
        }
    }
}

fn unpause(record: &ContainerRecord) -> Result<Step, Refusal> {
    match &record.phase {
        Phase::Paused { .. } => Draft::of(record)
            .effect(Effect::Thaw)
            .durability(Durability::Soon)
            .done(),
        _ => conflict(format!("container {} is not paused", record.id)),
    }
}

fn rename(record: &ContainerRecord, name: &str) -> Result<Step, Refusal> {
    match &record.phase {
        Phase::Removing { .. } | Phase::Dead { .. } => {
            conflict("container is marked for removal and cannot be renamed")
        }
        _ if record.name == name => Err(Refusal::Invalid(
            "Renaming a container with the same name as its current name".to_owned(),
        )),
        _ => {
            let mut draft = Draft::of(record);
            let old = std::mem::replace(&mut draft.record.name, name.to_owned());
            draft.news(News::Renamed { old }).done()
        }
    }
}

fn removal<T>(record: &ContainerRecord) -> Result<T, Refusal> {
    conflict(format!(
        "Container {} is marked for removal and cannot be connected or disconnected to the network",
        record.id
    ))
}

fn connect(
    record: &ContainerRecord,
    network: &str,
    attachment: &Attachment,
) -> Result<Step, Refusal> {
    let running = match &record.phase {
        Phase::Removing { .. } | Phase::Dead { .. } => return removal(record),
        Phase::Starting { .. } | Phase::Stopping { .. } => return Err(Refusal::Busy),
        phase => phase.is_running(),
    };
    if running && record.networks.contains_key(network) {
        return Err(Refusal::Forbidden(format!(
            "endpoint with name {} already exists in network {network}",
            record.name
        )));
    }
    let mut draft = Draft::of(record);
    draft
        .record
        .networks
        .insert(network.to_owned(), attachment.clone());
    crate::containers::networking::check_together(&draft.record.networks)
        .map_err(|e| Refusal::Forbidden(e.to_string()))?;
    let network = network.to_owned();
    if running {
        draft
            .effect(Effect::ChangeNetworks(NetworkChange::Join { network }))
            .done()
    } else {
        draft.news(News::NetworksChanged { network }).done()
    }
}

fn disconnect(record: &ContainerRecord, network: &str) -> Result<Step, Refusal> {
    let running = match &record.phase {
        Phase::Removing { .. } | Phase::Dead { .. } => return removal(record),
        Phase::Starting { .. } | Phase::Stopping { .. } => return Err(Refusal::Busy),
        phase => phase.is_running(),
    };
    let mut draft = Draft::of(record);
    let Some(attachment) = draft.record.networks.shift_remove(network) else {
        return Err(Refusal::Forbidden(format!(
            "container {} is not connected to network {network}",
            record.id
        )));
    };
    let network = network.to_owned();
    if running {
        let attachment = Box::new(attachment);
        draft
            .effect(Effect::ChangeNetworks(NetworkChange::Leave {
                network,
                attachment,
            }))
            .done()
    } else {
        draft.news(News::NetworksChanged { network }).done()
    }
}

fn change(record: &ContainerRecord, update: &UpdateRequest) -> Result<Step, Refusal> {
    if matches!(record.phase, Phase::Removing { .. } | Phase::Dead { .. }) {
        return conflict("container is marked for removal and cannot be \"update\"");
    }
    if record.pending_resources.is_some() {
        return Err(Refusal::Busy);
    }
    if update
        .restart
        .is_some_and(|p| p != crate::containers::spec::RestartPolicy::No)
        && record.spec.host.auto_remove
    {
        return Err(Refusal::Invalid(
            "restart policy cannot be updated because AutoRemove is enabled for the container"
                .to_owned(),
        ));
    }
    let mut draft = Draft::of(record);
    if let Some(policy) = update.restart {
        draft.record.restart = policy;
    }
    if update.resources == record.resources {
        return draft.news(News::Updated).done();
    }
    match &record.phase {
        Phase::Starting { .. } | Phase::Stopping { pid: None, .. } => Err(Refusal::Busy),
        phase if phase.is_running() => {
            draft.record.pending_resources = Some(update.resources.clone());
            draft
                .effect(Effect::ApplyLimits(Box::new(update.resources.clone())))
                .done()
        }
        _ => {
            draft.record.resources = update.resources.clone();
            draft.news(News::Updated).done()
        }
    }
}

fn remove(
    record: &ContainerRecord,
    options: RemoveOptions,
    now: Timestamp,
) -> Result<Step, Refusal> {
    let then = AfterStop::Remove {
        volumes: options.volumes,
    };
    let mut draft = Draft::of(record).durability(Durability::Earlier);
    draft.record.restart_cancelled = true;
    draft.record.stopped_by_user = true;
    let ending = |pid: Option<u32>, since| Phase::Stopping {
        pid,
        since,
        signal: Signal::KILL,
        deadline: Some(now.plus(limits::KILL_WAIT)),
        killed: true,
        then,
    };
    match &record.phase {
        Phase::Created | Phase::Exited | Phase::Dead { .. } => draft
            .removing(options.volumes)
            .durability(Durability::Now)
            .done(),
        Phase::Removing { .. }
        | Phase::Stopping {
            then: AfterStop::Remove { .. },
            ..
        } => conflict(format!(
            "removal of container {} is already in progress",
            record.name
        )),
        Phase::Backoff { .. } if options.force => draft
            .removing(options.volumes)
            .durability(Durability::Now)
            .done(),
        _ if !options.force => conflict(match &record.phase {
            Phase::Paused { .. } => "container is paused and must be unpaused first".to_owned(),
            phase => format!(
                "container is {}: stop the container before removing or force remove",
                match phase {
                    Phase::Starting { .. } => "starting",
                    other => other.status(),
                }
            ),
        }),
        Phase::Starting { .. } => draft.phase(ending(None, now)).done(),
        Phase::Stopping {
            pid: None, since, ..
        } => draft.phase(ending(None, *since)).done(),
        Phase::Running { pid, since }
        | Phase::Stopping {
            pid: Some(pid),
            since,
            ..
        } => draft
            .phase(ending(Some(*pid), *since))
            .effect(Effect::Signal(Signal::KILL))
            .done(),
        Phase::Paused { pid, since } => draft
            .phase(ending(Some(*pid), *since))
            .effect(Effect::Signal(Signal::KILL))
            .effect(Effect::Thaw)
            .done(),
        Phase::Backoff { .. } => Err(Refusal::Stale),
    }
}
