//! A world without processes, for the model test: what monitors and directories would hold, as values.
//!
//! It outlives the engine, as the real one does, and can be made to refuse or to be slow at any operation.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_types::{ContainerId, ErrorKind, Signal};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::clients::PendingClients;
use super::launcher::{ExecPlan, ExecRun, Found, LaunchError, Launcher, Run, RunFact, Streams};
use super::lifecycle::{ExitFact, Fact, NetworkChange, Observation};
use super::record::ContainerRecord;
use super::requests::TerminalSize;
use super::spec::Resources;
use crate::clock;
use crate::networks::RunNetwork;

#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) paused: bool,
    pub(crate) started: bool,
    pub(crate) ended: Option<ExitFact>,
    /// What it ends with once it is thawed.
    deadly: Option<i32>,
    listener: Option<mpsc::Sender<RunFact>>,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) runs: HashMap<ContainerId, Process>,
    /// Containers that own files.
    pub(crate) files: HashMap<ContainerId, ()>,
    /// Runs that were ever started twice at once: must stay empty.
    pub(crate) doubled: Vec<ContainerId>,
}

/// The launcher of one engine's life in a world that goes on.
#[derive(Debug, Clone)]
pub(crate) struct Simulated {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) chance: Arc<AtomicU32>,
    next: Arc<AtomicU32>,
}

impl Simulated {
    pub(crate) fn new(world: Arc<Mutex<World>>, seed: u32) -> Self {
        Self {
            world,
            chance: Arc::new(AtomicU32::new(seed | 1)),
            next: Arc::new(AtomicU32::new(100)),
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roll(&self) -> u32 {
        // xorshift: any sequence will do.
        let mut x = self.chance.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.chance.store(x, Ordering::Relaxed);
        x
    }

    /// Gives others a turn, so that an engine can die here.
    async fn pause(&self) {
        for _ in 0..self.roll() % 4 {
            tokio::task::yield_now().await;
        }
    }

    fn refuse(&self) -> Result<(), LaunchError> {
        if self.roll().is_multiple_of(13) {
            Err(LaunchError::new("simulated refusal", ErrorKind::Internal))
        } else {
            Ok(())
        }
    }

    /// The program ends by itself, or by a signal.
    pub(crate) fn end(&self, id: &ContainerId, code: i32) {
        let mut world = self.world();
        if let Some(process) = world.runs.get_mut(id)
            && process.started
            && process.ended.is_none()
        {
            let exit = ExitFact {
                code,
                out_of_memory: false,
                at: clock::now(),
            };
            process.ended = Some(exit);
            if let Some(listener) = process.listener.take() {
                let _ = listener.try_send(RunFact::Life(Fact::Exited(exit)));
            }
        }
    }
}

impl Launcher for Simulated {
    fn start<'a>(
        &'a self,
        record: &'a ContainerRecord,
        clients: &'a PendingClients,
    ) -> BoxFuture<'a, Result<Run, LaunchError>> {
        async move {
            self.pause().await;
            self.refuse()?;
            self.world().files.insert(record.id.clone(), ());
            self.pause().await;
            let pid = self.next.fetch_add(1, Ordering::Relaxed);
            {
                let mut world = self.world();
                let alive = world
                    .runs
                    .get(&record.id)
                    .is_some_and(|p| p.started && p.ended.is_none());
                if alive {
                    world.doubled.push(record.id.clone());
                }
                world.runs.insert(
                    record.id.clone(),
                    Process {
                        pid,
                        ..Process::default()
                    },
                );
            }
            self.pause().await;
            if let Err(error) = self.refuse() {
                self.world().runs.remove(&record.id);
                return Err(error);
            }
            drop(clients.connect());
            let (sender, facts) = mpsc::channel(16);
            if let Some(process) = self.world().runs.get_mut(&record.id) {
                process.started = true;
                process.listener = Some(sender);
            }
            let at = clock::now();
            self.pause().await;
            Ok(Run {
                pid,
                at,
                notes: Vec::new(),
                network: None,
                facts,
            })
        }
        .boxed()
    }

    fn signal<'a>(
        &'a self,
        id: &'a ContainerId,
        signal: Signal,
    ) -> BoxFuture<'a, Result<(), LaunchError>> {
        async move {
            self.pause().await;
            // SIGKILL always, SIGTERM mostly ends it; nothing else does.
            if signal == Signal::KILL || (signal == Signal::TERM && !self.roll().is_multiple_of(4))
            {
                let code = 128 + signal.number();
                let is_frozen = match self.world().runs.get_mut(id) {
                    Some(process) if process.paused => {
                        process.deadly = Some(code);
                        true
                    }
                    _ => false,
                };
                if !is_frozen {
                    self.end(id, code);
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn freeze<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), LaunchError>> {
        async move {
            self.pause().await;
            self.refuse()?;
            match self.world().runs.get_mut(id) {
                Some(process) if process.ended.is_none() => {
                    process.paused = true;
                    Ok(())
                }
                _ => Err(LaunchError::new("not running", ErrorKind::Conflict)),
            }
        }
        .boxed()
    }

    fn thaw<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), LaunchError>> {
        async move {
            self.pause().await;
            let deadly = match self.world().runs.get_mut(id) {
                Some(process) => {
                    process.paused = false;
                    process.deadly.take()
                }
                None => None,
            };
            if let Some(code) = deadly {
                self.end(id, code);
            }
            Ok(())
        }
        .boxed()
    }

    fn apply_limits<'a>(
        &'a self,
        _record: &'a ContainerRecord,
        _resources: &'a Resources,
    ) -> BoxFuture<'a, Result<Vec<String>, LaunchError>> {
        async move {
            self.pause().await;
            self.refuse().map(|()| Vec::new())
        }
        .boxed()
    }

    fn change_networks<'a>(
        &'a self,
        _record: &'a ContainerRecord,
        _change: &'a NetworkChange,
    ) -> BoxFuture<'a, Result<Option<Arc<RunNetwork>>, LaunchError>> {
        async move {
            self.pause().await;
            self.refuse().map(|()| None)
        }
        .boxed()
    }

    fn release<'a>(
        &'a self,
        record: &'a ContainerRecord,
    ) -> BoxFuture<'a, Result<(), LaunchError>> {
        async move {
            self.pause().await;
            self.world().runs.remove(&record.id);
            Ok(())
        }
        .boxed()
    }

    fn remove<'a>(
        &'a self,
        record: &'a ContainerRecord,
        _volumes: bool,
    ) -> BoxFuture<'a, Result<(), LaunchError>> {
        async move {
            self.pause().await;
            self.world().runs.remove(&record.id);
            self.pause().await;
            self.refuse()?;
            self.world().files.remove(&record.id);
            Ok(())
        }
        .boxed()
    }

    fn observe<'a>(&'a self, record: &'a ContainerRecord) -> BoxFuture<'a, Found> {
        async move {
            let mut facts = None;
            let observation = match self.world().runs.get_mut(&record.id) {
                None => Observation::Nothing,
                Some(process) if !process.started => Observation::Prepared,
                Some(process) => match process.ended {
                    Some(exit) => Observation::Exited(exit),
                    None => {
                        let (sender, receiver) = mpsc::channel(16);
                        process.listener = Some(sender);
                        facts = Some(receiver);
                        Observation::Running {
                            pid: process.pid,
                            paused: process.paused,
                        }
                    }
                },
            };
            Found {
                observation,
                notes: Vec::new(),
                network: None,
                facts,
                execs: Vec::new(),
            }
        }
        .boxed()
    }

    fn attach<'a>(
        &'a self,
        _id: &'a ContainerId,
        _streams: Streams,
    ) -> BoxFuture<'a, Result<UnixStream, LaunchError>> {
        async {
            Err(LaunchError::new(
                "no streams here",
                ErrorKind::NotImplemented,
            ))
        }
        .boxed()
    }

    fn exec<'a>(
        &'a self,
        _id: &'a ContainerId,
        _plan: ExecPlan,
    ) -> BoxFuture<'a, Result<ExecRun, LaunchError>> {
        async {
            Err(LaunchError::new(
                "no programs here",
                ErrorKind::NotImplemented,
            ))
        }
        .boxed()
    }

    fn signal_exec<'a>(
        &'a self,
        _id: &'a ContainerId,
        _exec: &'a str,
        _signal: Signal,
    ) -> BoxFuture<'a, Result<(), LaunchError>> {
        async { Ok(()) }.boxed()
    }

    fn resize<'a>(
        &'a self,
        _id: &'a ContainerId,
        _exec: Option<&'a str>,
        _size: TerminalSize,
    ) -> BoxFuture<'a, Result<(), LaunchError>> {
        async { Ok(()) }.boxed()
    }

    fn processes<'a>(
        &'a self,
        _id: &'a ContainerId,
    ) -> BoxFuture<'a, Result<Vec<u32>, LaunchError>> {
        async { Ok(Vec::new()) }.boxed()
    }
}
