//! Carrying effects out, in order, away from the owner, with the outcome sent back as an event.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use berth_types::ErrorKind;
use futures_util::FutureExt as _;
use tokio::sync::mpsc;

use super::clients::PendingClients;
use super::launcher::{Launcher, RunFact};
use super::lifecycle::{Effect, Event, Fact, Outcome};
use super::owner::Message;
use super::record::ContainerRecord;
use crate::execs::Sessions;

/// What carries a batch of effects out.
pub(super) struct Performer {
    pub(super) launcher: Arc<dyn Launcher>,
    pub(super) sessions: Sessions,
    pub(super) clients: Arc<PendingClients>,
    pub(super) messages: mpsc::Sender<Message>,
}

impl Performer {
    pub(super) async fn perform(self, batch: Vec<(Effect, ContainerRecord)>) {
        for (effect, record) in batch {
            let attempt = AssertUnwindSafe(self.one(&effect, &record)).catch_unwind();
            if attempt.await.is_err() {
                tracing::error!(container = %record.id, ?effect, "defect while carrying out an effect");
                if let Some(outcome) = defect(&effect) {
                    self.send(outcome).await;
                }
            }
            if effect == Effect::ReleaseRun {
                let _ = self.messages.send(Message::Released).await;
            }
        }
        let _ = self.messages.send(Message::EffectsDone).await;
    }

    async fn send(&self, outcome: Outcome) {
        let _ = self
            .messages
            .send(Message::Event(Event::Outcome(outcome)))
            .await;
    }

    async fn one(&self, effect: &Effect, record: &ContainerRecord) {
        let launcher = &self.launcher;
        let id = &record.id;
        let outcome = match effect {
            Effect::Start => match launcher.start(record, &self.clients).await {
                Ok(run) => {
                    let _ = self.messages.send(Message::Notes(run.notes)).await;
                    let _ = self.messages.send(Message::Network(run.network)).await;
                    self.send(Outcome::Ready {
                        pid: run.pid,
                        at: run.at,
                    })
                    .await;
                    // After that, so that the end of a run never comes before its beginning.
                    forward(self.sessions.clone(), self.messages.clone(), run.facts);
                    return;
                }
                Err(error) => {
                    self.clients.disconnect();
                    start_failed(error.exit_code, error.message, error.kind)
                }
            },
            Effect::Signal(signal) => match launcher.signal(id, *signal).await {
                Ok(()) => Outcome::SignalSent { signal: *signal },
                Err(error) => Outcome::SignalFailed {
                    signal: *signal,
                    message: error.message,
                    kind: error.kind,
                },
            },
            Effect::Freeze => match launcher.freeze(id).await {
                Ok(()) => Outcome::Frozen,
                Err(error) => Outcome::FreezeFailed {
                    message: error.message,
                    kind: error.kind,
                },
            },
            Effect::Thaw => match launcher.thaw(id).await {
                Ok(()) => Outcome::Thawed,
                Err(error) => Outcome::ThawFailed {
                    message: error.message,
                    kind: error.kind,
                },
            },
            Effect::ApplyLimits(resources) => {
                match launcher.apply_limits(record, resources).await {
                    Ok(notes) => {
                        if !notes.is_empty() {
                            let _ = self.messages.send(Message::Notes(notes)).await;
                        }
                        Outcome::LimitsApplied
                    }
                    Err(error) => Outcome::LimitsFailed {
                        message: error.message,
                        kind: error.kind,
                    },
                }
            }
            Effect::ChangeNetworks(change) => {
                match launcher.change_networks(record, change).await {
                    Ok(network) => {
                        let _ = self.messages.send(Message::Network(network)).await;
                        Outcome::NetworksChanged(change.clone())
                    }
                    Err(error) => Outcome::NetworksFailed {
                        change: change.clone(),
                        message: error.message,
                        kind: error.kind,
                    },
                }
            }
            Effect::ReleaseRun => {
                if let Err(error) = launcher.release(record).await {
                    // Nobody waits for this; the next start or the removal does it again and tells.
                    tracing::debug!(container = %id, error = error.message, "a run was not released wholly");
                }
                return;
            }
            Effect::Remove { volumes } => match launcher.remove(record, *volumes).await {
                Ok(()) => Outcome::Removed,
                Err(error) => Outcome::RemovalFailed {
                    reason: error.message,
                },
            },
        };
        self.send(outcome).await;
    }
}

/// The outcome of a failed start.
fn start_failed(exit_code: i32, message: String, kind: ErrorKind) -> Outcome {
    Outcome::StartFailed {
        exit_code,
        message,
        kind,
    }
}

/// What a defect in an effect means for the lifecycle, so that nothing waits for ever.
fn defect(effect: &Effect) -> Option<Outcome> {
    let message = "a defect in the engine; see its log".to_owned();
    let kind = ErrorKind::Internal;
    Some(match effect {
        Effect::Start => start_failed(128, message, kind),
        Effect::Signal(signal) => Outcome::SignalFailed {
            signal: *signal,
            message,
            kind,
        },
        Effect::Freeze => Outcome::FreezeFailed { message, kind },
        Effect::Thaw => Outcome::ThawFailed { message, kind },
        Effect::ApplyLimits(_) => Outcome::LimitsFailed { message, kind },
        Effect::ChangeNetworks(change) => Outcome::NetworksFailed {
            change: change.clone(),
            message,
            kind,
        },
        Effect::Remove { .. } => Outcome::RemovalFailed { reason: message },
        Effect::ReleaseRun => return None,
    })
}

/// Passes on what a run tells, until it ends.
pub(super) fn forward(
    sessions: Sessions,
    messages: mpsc::Sender<Message>,
    mut facts: mpsc::Receiver<RunFact>,
) {
    tokio::spawn(async move {
        let mut ended = false;
        while let Some(fact) = facts.recv().await {
            match fact {
                RunFact::Life(fact) => {
                    ended |= matches!(fact, Fact::Exited(_) | Fact::MonitorLost);
                    if messages
                        .send(Message::Event(Event::Fact(fact)))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
                RunFact::ExecExited { exec, code } => sessions.ended(&exec, code),
            }
        }
        if !ended {
            let _ = messages
                .send(Message::Event(Event::Fact(Fact::MonitorLost)))
                .await;
        }
    });
}
