//! One task per container, the only writer of its record.
//!
//! ```text
//! event  = next of { request, outcome of an effect, fact of the monitor, timer, probe }
//! step   = lifecycle::step(&record, event, now)      // pure
//! records.save(step.record)                          // before any effect
//! publish(view); announce(step.news)
//! queue(step.effects)                                // outcomes come back as events
//! ```
//!
//! Effects run one at a time, in order, in a task of their own, while this one keeps answering. A panic here
//! is caught: the owner goes on from its record after a fresh look at the world.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use berth_types::{ContainerId, Timestamp};
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use super::announce;
use super::answers::{answer, gone, is_done_by_release, outcome_of, refused};
use super::clients::PendingClients;
use super::effects::{self, Performer};
use super::index::{ContainerHandle, Index};
use super::launcher::Launcher;
use super::lifecycle::{self, Durability, Effect, Event, News, Refusal, Request, Step, Timer};
use super::phase::Phase;
use super::probing;
use super::record::ContainerRecord;
use super::requests::{WaitCondition, WaitOutcome};
use super::view::{ContainerPaths, ContainerView};
use crate::clock;
use crate::error::EngineError;
use crate::events::Events;
use crate::execs::Sessions;
use crate::host::Host;
use crate::limits;
use crate::networks::{Networks, RunNetwork};
use crate::records::{Records, Ticket};

/// What callers ask.
#[derive(Debug)]
pub enum Ask {
    /// Something the lifecycle decides.
    Request(Request, oneshot::Sender<Result<(), EngineError>>),
    /// To be told of an end.
    Wait(
        WaitCondition,
        oneshot::Sender<oneshot::Receiver<WaitOutcome>>,
    ),
    /// To look at the world and take it from there; answered after the step.
    Recover(oneshot::Sender<()>),
}

/// What the owner's own tasks tell it.
#[derive(Debug)]
pub enum Message {
    /// Something for the lifecycle.
    Event(Event),
    /// What was clamped at the start.
    Notes(Vec<String>),
    /// What the run has in networks.
    Network(Option<Arc<RunNetwork>>),
    /// What the latest run had is put away.
    Released,
    /// The queued effects are done.
    EffectsDone,
}

/// What an owner works with.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Where records are kept.
    pub records: Records,
    /// What happened.
    pub events: Events,
    /// Who carries effects out.
    pub launcher: Arc<dyn Launcher>,
    /// All containers.
    pub index: Index,
    /// Exec sessions.
    pub sessions: Sessions,
    /// Settings, directories and facts.
    pub host: Arc<Host>,
    /// Networks.
    pub networks: Networks,
}

struct Waiter {
    condition: WaitCondition,
    reply: oneshot::Sender<WaitOutcome>,
}

struct Pending {
    request: Request,
    reply: oneshot::Sender<Result<(), EngineError>>,
    /// The run whose end was asked for has ended, and is being put away.
    ended: bool,
}

struct Owner {
    environment: Environment,
    id: ContainerId,
    /// `None` once the container is gone.
    record: Option<ContainerRecord>,
    paths: ContainerPaths,
    notes: Vec<String>,
    network: Option<Arc<RunNetwork>>,
    view: watch::Sender<Arc<ContainerView>>,
    clients: Arc<PendingClients>,
    messages: mpsc::Sender<Message>,
    pending: Vec<Pending>,
    held: VecDeque<Pending>,
    waiters: Vec<Waiter>,
    queued: VecDeque<(Effect, ContainerRecord)>,
    performing: bool,
    probing: Option<AbortHandle>,
    /// The latest save that nobody has waited for.
    saved: Option<Ticket>,
    removal_retry: Option<Timestamp>,
}

/// Starts the owner of a container whose record is on disk, or on its way there (`unsaved`), and gives the way to
/// ask it.
#[must_use]
pub fn start(
    environment: Environment,
    record: ContainerRecord,
    paths: ContainerPaths,
    unsaved: Option<Ticket>,
) -> ContainerHandle {
    let (asks, ask_receiver) = mpsc::channel(limits::OWNER_QUEUE);
    let (messages, message_receiver) = mpsc::channel(limits::OWNER_SIGNALS);
    let clients = Arc::new(PendingClients::default());
    let (view, view_receiver) =
        watch::channel(Arc::new(ContainerView::of(&record, &paths, &[], None)));
    let handle = ContainerHandle {
        id: record.id.clone(),
        asks,
        messages: messages.clone(),
        view: view_receiver,
        clients: Arc::clone(&clients),
    };
    let owner = Owner {
        environment,
        id: record.id.clone(),
        record: Some(record),
        paths,
        notes: Vec::new(),
        network: None,
        view,
        clients,
        messages,
        pending: Vec::new(),
        held: VecDeque::new(),
        waiters: Vec::new(),
        queued: VecDeque::new(),
        performing: false,
        probing: None,
        saved: unsaved,
        removal_retry: None,
    };
    tokio::spawn(supervise(owner, ask_receiver, message_receiver));
    handle
}

async fn supervise(
    mut owner: Owner,
    mut asks: mpsc::Receiver<Ask>,
    mut messages: mpsc::Receiver<Message>,
) {
    loop {
        let run = AssertUnwindSafe(owner.run(&mut asks, &mut messages)).catch_unwind();
        match run.await {
            Ok(()) => return,
            Err(_) => {
                tracing::error!(container = %owner.id, "defect in a container's owner; it goes on from its record");
                owner.pending.clear();
                owner.held.clear();
                if AssertUnwindSafe(owner.recover())
                    .catch_unwind()
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
    }
}

impl Owner {
    async fn run(
        &mut self,
        asks: &mut mpsc::Receiver<Ask>,
        messages: &mut mpsc::Receiver<Message>,
    ) {
        while self.record.is_some() {
            let timer = self.timer();
            let wait = timer.map_or(Duration::MAX, |(_, due)| due.since(clock::now()));
            let sleep = tokio::time::sleep(wait.min(Duration::from_secs(86_400)));
            tokio::select! {
                // Facts before requests: who asks sees what already happened.
                biased;
                message = messages.recv() => match message {
                    Some(message) => self.message(message).await,
                    None => return,
                },
                () = sleep, if timer.is_some() => {
                    if let Some((timer, due)) = timer && clock::now() >= due {
                        self.event(&Event::Timer(timer)).await;
                    }
                }
                ask = asks.recv() => match ask {
                    Some(ask) => self.ask(ask).await,
                    None => return,
                },
            }
        }
    }

    fn timer(&self) -> Option<(Timer, Timestamp)> {
        let record = self.record.as_ref()?;
        match record.phase {
            Phase::Dead { .. } => self.removal_retry.map(|due| (Timer::Removal, due)),
            _ => lifecycle::timer(record),
        }
    }

    async fn message(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.event(&event).await,
            Message::Notes(notes) => self.notes = notes,
            Message::Network(network) => self.network = network,
            Message::Released => self.tell_released(),
            Message::EffectsDone => {
                self.performing = false;
                self.perform();
            }
        }
    }

    async fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Request(request, reply) => {
                let ended = false;
                self.request(Pending {
                    request,
                    reply,
                    ended,
                })
                .await;
            }
            Ask::Wait(condition, reply) => {
                let (outcome, receiver) = oneshot::channel();
                self.wait(condition, outcome);
                let _ = reply.send(receiver);
            }
            Ask::Recover(reply) => {
                self.recover().await;
                let _ = reply.send(());
            }
        }
    }

    async fn recover(&mut self) {
        let Some(record) = self.record.clone() else {
            return;
        };
        let found = self.environment.launcher.observe(&record).await;
        self.notes = found.notes;
        self.network = found.network;
        for (exec, pid) in found.execs {
            self.environment.sessions.adopt(&self.id, &exec, pid);
        }
        if let Some(facts) = found.facts {
            // Streams were lost with the old daemon; whoever attaches now asks the monitor.
            drop(self.clients.connect());
            effects::forward(
                self.environment.sessions.clone(),
                self.messages.clone(),
                facts,
            );
        }
        self.event(&Event::Observed(found.observation)).await;
        if matches!(
            self.record.as_ref().map(|r| &r.phase),
            Some(Phase::Running { .. })
        ) {
            self.probe();
        }
    }

    async fn request(&mut self, pending: Pending) {
        let Some(record) = self.record.as_ref() else {
            let _ = pending.reply.send(Err(gone(&self.id)));
            return;
        };
        match lifecycle::step(
            record,
            &Event::Request(pending.request.clone()),
            clock::now(),
        ) {
            Ok(step) => self.take(step, Some(pending)).await,
            Err(Refusal::Busy) => {
                if self.held.len() >= limits::OWNER_QUEUE {
                    let _ = pending.reply.send(Err(EngineError::Unavailable(format!(
                        "too many requests wait for container {}",
                        self.id
                    ))));
                } else {
                    self.held.push_back(pending);
                }
            }
            Err(refusal) => {
                let _ = pending.reply.send(Err(refused(refusal)));
            }
        }
    }

    async fn event(&mut self, event: &Event) {
        let Some(record) = self.record.as_ref() else {
            return;
        };
        match lifecycle::step(record, event, clock::now()) {
            Ok(step) => self.take(step, None).await,
            Err(refusal) => {
                tracing::trace!(container = %self.id, ?event, ?refusal, "nothing new");
            }
        }
    }

    /// Saves, publishes, announces, queues.
    async fn take(&mut self, step: Step, asked: Option<Pending>) {
        let before = self.record.as_ref().map(|r| r.phase.clone());
        match (self.save(&step).await, asked) {
            (Ok(()), Some(asked)) => self.pending.push(asked),
            (Ok(()), None) => {}
            // An intent that is not on disk is not carried out.
            (Err(error), Some(asked)) => {
                let _ = asked.reply.send(Err(error));
                return;
            }
            // What has happened has happened, whether the disk takes it or not; a later save of the same
            // record, or the look at the world when the daemon starts, makes up for this one.
            (Err(error), None) => {
                tracing::error!(container = %self.id, error = %error.full_text(), "a container's record could not be written");
            }
        }
        let at_once = step.effects.is_empty() && step.news.is_empty();
        let name = self.record.as_ref().map(|r| r.name.clone());
        match &step.record {
            Some(record) => {
                self.view.send_replace(Arc::new(ContainerView::of(
                    record,
                    &self.paths,
                    &self.notes,
                    self.network.as_ref(),
                )));
                // After the save was handed over: a record of another container with this name follows it.
                match &record.phase {
                    Phase::Removing { unseen: true, .. } => {
                        self.environment.index.hide(&self.id, &record.name);
                    }
                    Phase::Removing { .. } => {}
                    _ => self.environment.index.show(&self.id, &record.name),
                }
            }
            None => {
                self.environment
                    .index
                    .remove(&self.id, name.as_deref().unwrap_or_default());
                self.clients.disconnect();
            }
        }
        let previous = std::mem::replace(&mut self.record, step.record);
        let released = step.effects.contains(&Effect::ReleaseRun);
        self.settle_run(before.as_ref(), released);
        if let Some(subject) = self.record.as_ref().or(previous.as_ref()).cloned() {
            for news in &step.news {
                announce::publish(&self.environment.events, &subject, news);
                if matches!(news, News::Renamed { .. }) {
                    self.renamed(&subject);
                }
                self.tell(&subject, released, news);
            }
        }
        if let Some(record) = self.record.clone() {
            for effect in step.effects {
                self.queued.push_back((effect, record.clone()));
            }
        }
        self.perform();
        if self.record.is_none() {
            self.end();
        } else if !at_once {
            self.retry_held().await;
        }
    }

    /// Things that follow from a change of phase and are no effects: clients, probes, timers.
    fn settle_run(&mut self, before: Option<&Phase>, released: bool) {
        let phase = self.record.as_ref().map(|r| r.phase.clone());
        let phase = phase.as_ref();
        if released {
            self.environment.networks.run_is_over(&self.id);
            self.clients.disconnect();
            self.environment.sessions.container_ended(&self.id);
        }
        let probes = |p: Option<&Phase>| matches!(p, Some(Phase::Running { .. }));
        if probes(phase) && !probes(before) {
            self.probe();
        } else if probes(before) && !probes(phase) {
            self.stop_probing();
        }
        self.removal_retry = match phase {
            Some(Phase::Dead { .. }) => Some(clock::now().plus(limits::REMOVAL_RETRY)),
            _ => None,
        };
    }

    /// Has networks answer to the new name.
    fn renamed(&self, record: &ContainerRecord) {
        let networks = self.environment.networks.clone();
        let (id, name) = (record.id.clone(), record.name.clone());
        tokio::spawn(async move {
            if let Err(error) = networks.rename(&id, &name).await {
                tracing::error!(container = %id, error = %error.full_text(), "a container is still found by its old name");
            }
        });
    }

    fn probe(&mut self) {
        self.stop_probing();
        let enabled = self.record.as_ref().is_some_and(|record| {
            record.health.is_some()
                && record
                    .spec
                    .config
                    .healthcheck
                    .as_ref()
                    .is_some_and(super::spec::HealthSettings::enabled)
        });
        if enabled {
            let task = probing::start(
                self.environment.clone(),
                self.view.subscribe(),
                self.messages.clone(),
            );
            self.probing = Some(task);
        }
    }

    fn stop_probing(&mut self) {
        if let Some(task) = self.probing.take() {
            task.abort();
        }
    }

    async fn save(&mut self, step: &Step) -> Result<(), EngineError> {
        let earlier = self.saved.take();
        let records = &self.environment.records;
        let ticket = match &step.record {
            Some(record) => records.save(record).await?,
            None => records.remove(&self.id).await?,
        };
        match step.durability {
            Durability::Now => ticket.durable().await,
            Durability::Earlier => {
                self.saved = Some(ticket);
                match earlier {
                    Some(earlier) => earlier.durable().await,
                    None => Ok(()),
                }
            }
            Durability::Soon => {
                self.saved = Some(ticket);
                Ok(())
            }
        }
    }

    fn perform(&mut self) {
        if self.performing || self.queued.is_empty() {
            return;
        }
        self.performing = true;
        let batch: Vec<(Effect, ContainerRecord)> = self.queued.drain(..).collect();
        let performer = Performer {
            launcher: Arc::clone(&self.environment.launcher),
            sessions: self.environment.sessions.clone(),
            clients: Arc::clone(&self.clients),
            messages: self.messages.clone(),
        };
        tokio::spawn(performer.perform(batch));
    }

    async fn retry_held(&mut self) {
        for _ in 0..self.held.len() {
            let Some(pending) = self.held.pop_front() else {
                return;
            };
            // Boxed: held requests are retried from within the step that may have let them.
            Box::pin(self.request(pending)).await;
        }
    }

    fn wait(&mut self, condition: WaitCondition, reply: oneshot::Sender<WaitOutcome>) {
        let Some(record) = self.record.as_ref() else {
            return;
        };
        let met = match condition {
            WaitCondition::NotRunning => matches!(
                record.phase,
                Phase::Created | Phase::Exited | Phase::Removing { .. } | Phase::Dead { .. }
            ),
            WaitCondition::NextExit | WaitCondition::Removed => false,
        };
        if met {
            let _ = reply.send(outcome_of(record));
            return;
        }
        self.waiters.retain(|w| !w.reply.is_closed());
        if self.waiters.len() >= limits::WAITERS {
            return;
        }
        self.waiters.push(Waiter { condition, reply });
    }

    /// Answers those who asked or wait.
    fn tell(&mut self, record: &ContainerRecord, releasing: bool, news: &News) {
        let (ends, removed) = match news {
            News::Died { .. } | News::StartFailed { .. } => (true, false),
            News::Destroyed => (true, true),
            News::RemovalFailed { .. } => (false, true),
            _ => (false, false),
        };
        if ends || removed {
            let mut outcome = outcome_of(record);
            match news {
                News::RemovalFailed { reason } => outcome.error = Some(reason.clone()),
                // A removal that went well has no error, whatever the run had.
                News::Destroyed => outcome.error = None,
                _ => {}
            }
            let waiting = std::mem::take(&mut self.waiters);
            for waiter in waiting {
                let due = match waiter.condition {
                    WaitCondition::Removed => removed,
                    WaitCondition::NotRunning => ends,
                    WaitCondition::NextExit => ends && !matches!(news, News::StartFailed { .. }),
                };
                if due {
                    let _ = waiter.reply.send(outcome.clone());
                } else {
                    self.waiters.push(waiter);
                }
            }
        }
        let pending = std::mem::take(&mut self.pending);
        for pending in pending {
            match answer(record, releasing, &pending.request, news) {
                Some(answer) => {
                    let _ = pending.reply.send(answer);
                }
                None => {
                    let ended = pending.ended || is_done_by_release(&pending.request, news);
                    self.pending.push(Pending { ended, ..pending });
                }
            }
        }
    }

    /// Answers those who asked for the end of the run that was released.
    fn tell_released(&mut self) {
        for pending in self.pending.extract_if(.., |pending| pending.ended) {
            let _ = pending.reply.send(Ok(()));
        }
    }

    fn end(&mut self) {
        self.stop_probing();
        self.environment.sessions.forget_container(&self.id);
        for pending in self.pending.drain(..).chain(self.held.drain(..)) {
            let _ = pending.reply.send(Err(gone(&self.id)));
        }
        self.waiters.clear();
    }
}
