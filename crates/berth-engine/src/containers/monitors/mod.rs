//! The launcher of real monitor processes.
//!
//! Owns the connections to monitors, and the order of a start: directories → `config.json` → monitor →
//! pending clients → program. Decides nothing.

mod facts;
mod joining;
mod launching;
mod preparing;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use berth_image::ImageStore;
use berth_monitor::{ConsoleSize, ExecRequest, MonitorError, MonitorHandle, RunState, Spares};
use berth_sys::executable::SealedExecutable;
use berth_types::{ContainerId, ErrorKind, Signal};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::clients::PendingClients;
use super::files::roots::Roots;
use super::index::Index;
use super::launcher::{ExecPlan, ExecRun, Found, LaunchError, Launcher, Run, Streams};
use super::lifecycle::{NetworkChange, Observation};
use super::oci;
use super::record::ContainerRecord;
use super::requests::TerminalSize;
use super::spec::Resources;
use super::surroundings::{self, Lookups};
use crate::error::EngineError;
use crate::host::Host;
use crate::limits;
use crate::networks::{Networks, RunNetwork};
use crate::volumes::{Purpose, Volumes};

use facts::{exit_fact, translate};
use preparing::Core;
pub use preparing::log_settings;

/// The launcher.
#[derive(Debug)]
pub struct Monitors {
    core: Arc<Core>,
    /// What the spares are executed from.
    _executable: SealedExecutable,
    spares: Spares,
    handles: Mutex<HashMap<ContainerId, MonitorHandle>>,
    launches: Semaphore,
    blocking: Semaphore,
}

fn of_monitor(attempt: &str, error: &MonitorError) -> LaunchError {
    let failure = error.to_failure();
    LaunchError {
        message: if failure.start_failure.is_some() || attempt.is_empty() {
            failure.message.clone()
        } else {
            format!("{attempt}: {}", failure.message)
        },
        kind: failure.kind,
        exit_code: failure.exit_code(),
    }
}

/// As [`of_monitor`], for what only a container that runs can do.
fn of_run(id: &ContainerId, attempt: &str, error: &MonitorError) -> LaunchError {
    match error.is_over() {
        true => gone(id),
        false => of_monitor(attempt, error),
    }
}

fn gone(id: &ContainerId) -> LaunchError {
    LaunchError::new(
        format!("container {id} is not running"),
        ErrorKind::Conflict,
    )
}

impl Monitors {
    /// Makes the sealed view of the executable and waits for work.
    ///
    /// # Errors
    /// When the view cannot be made.
    pub(crate) fn new(
        host: Arc<Host>,
        images: ImageStore,
        index: Index,
        networks: Networks,
        volumes: Volumes,
        roots: Roots,
    ) -> Result<Self, EngineError> {
        let config = host.config();
        let copies = config.data_root.join("executable");
        let executable =
            SealedExecutable::of_copy_in(&copies, &config.executable).map_err(|e| {
                let kind = e.kind();
                EngineError::failed("make a sealed view of the executable", kind, e)
            })?;
        let spares = Spares::new(executable.path(), host.exec_root().join("containers"));
        spares.refill();
        Ok(Self {
            core: Arc::new(Core {
                host,
                images,
                index,
                lookups: Lookups::default(),
                networks,
                volumes,
                roots,
            }),
            _executable: executable,
            spares,
            handles: Mutex::new(HashMap::new()),
            launches: Semaphore::new(limits::LAUNCHES_AT_ONCE),
            blocking: Semaphore::new(limits::BLOCKING_AT_ONCE),
        })
    }

    fn handles(&self) -> std::sync::MutexGuard<'_, HashMap<ContainerId, MonitorHandle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, id: &ContainerId) -> Result<MonitorHandle, LaunchError> {
        self.handles().get(id).cloned().ok_or_else(|| gone(id))
    }

    /// Runs blocking work in a bounded pool.
    async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core) -> Result<T, LaunchError> + Send + 'static,
    ) -> Result<T, LaunchError> {
        let _place = self.blocking.acquire().await;
        let core = Arc::clone(&self.core);
        match tokio::task::spawn_blocking(move || work(&core)).await {
            Ok(result) => result,
            Err(error) => Err(LaunchError::new(
                format!("a defect in the engine: {error}"),
                ErrorKind::Internal,
            )),
        }
    }

    /// Ends and releases a run, whatever is left of it.
    async fn release_run(&self, record: &ContainerRecord) -> Result<(), LaunchError> {
        let id = record.id.clone();
        let directory = self.core.host.container_run(&id);
        let handle = self.handles().get(&id).cloned();
        let handle = match handle {
            Some(handle) => Some(handle),
            None if berth_sys::fs::exists(&directory) => {
                berth_monitor::connect(&directory).await.ok().flatten()
            }
            None => None,
        };
        if let Some(handle) = handle {
            end(&handle).await;
        }
        self.handles().remove(&id);
        let left = self.core.networks.leave(&id).await;
        let of_core = id.clone();
        self.block(move |core| core.release_run(&of_core, &directory))
            .await?;
        // After all processes: a volume that is in use stays mounted behind its name.
        let unmounted = self
            .core
            .volumes
            .unmount(&id, &volume_names(record), Purpose::Run)
            .await;
        left?;
        Ok(unmounted?)
    }
}

/// Names of the volumes a container mounts.
fn volume_names(record: &ContainerRecord) -> Vec<String> {
    let volumes = record.spec.volumes();
    volumes.map(|(volume, _)| volume.name.clone()).collect()
}

/// Ends what runs under a monitor, and waits for the monitor to have cleaned up.
async fn end(handle: &MonitorHandle) {
    // A monitor whose run has ended goes by itself; a question would only keep it.
    if tokio::time::timeout(limits::MONITOR_GOES, handle.gone())
        .await
        .is_ok()
    {
        return;
    }
    let over = handle
        .status()
        .await
        .map_or(true, |s| s.state == RunState::Exited);
    if !over {
        // A frozen process does not die.
        let _ = handle.kill_all(Signal::KILL).await;
        let _ = handle.resume().await;
    }
    if tokio::time::timeout(limits::KILL_WAIT, handle.gone())
        .await
        .is_err()
    {
        tracing::debug!(directory = %handle.directory().display(), "a monitor does not end");
    }
}

fn streams(wanted: Streams) -> berth_monitor::Streams {
    berth_monitor::Streams {
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    }
}

impl Launcher for Monitors {
    fn start<'a>(
        &'a self,
        record: &'a ContainerRecord,
        clients: &'a PendingClients,
    ) -> BoxFuture<'a, Result<Run, LaunchError>> {
        async move {
            let result = self.launch(record, clients).await;
            if result.is_err() {
                let _ = self.release_run(record).await;
            }
            result
        }
        .boxed()
    }

    fn signal<'a>(
        &'a self,
        id: &'a ContainerId,
        signal: Signal,
    ) -> BoxFuture<'a, Result<(), LaunchError>> {
        async move {
            let handle = self.handle(id)?;
            match handle.kill(signal).await {
                Ok(()) => Ok(()),
                // It ended meanwhile, which is what a signal mostly wants; its exit is on the way.
                Err(error) if error.is_over() => Ok(()),
                Err(error) => Err(of_monitor(
                    &format!("send {signal} to container {id}"),
                    &error,
                )),
            }
        }
        .boxed()
    }

    fn freeze<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), LaunchError>> {
        async move {
            self.handle(id)?
                .pause()
                .await
                .map_err(|e| of_run(id, &format!("cannot pause container {id}"), &e))
        }
        .boxed()
    }

    fn thaw<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), LaunchError>> {
        async move {
            self.handle(id)?
                .resume()
                .await
                .map_err(|e| of_run(id, &format!("cannot resume container {id}"), &e))
        }
        .boxed()
    }

    fn apply_limits<'a>(
        &'a self,
        record: &'a ContainerRecord,
        resources: &'a Resources,
    ) -> BoxFuture<'a, Result<Vec<String>, LaunchError>> {
        async move {
            let handle = self.handle(&record.id)?;
            let numbers = surroundings::block_devices(resources)?;
            let limits = oci::limits(resources, &numbers)?;
            match handle.update(limits).await {
                // It ended meanwhile; the next run begins with them.
                Err(error) if error.is_over() => Ok(Vec::new()),
                updated => updated
                    .map_err(|e| of_monitor(&format!("cannot update container {}", record.id), &e)),
            }
        }
        .boxed()
    }

    fn change_networks<'a>(
        &'a self,
        record: &'a ContainerRecord,
        change: &'a NetworkChange,
    ) -> BoxFuture<'a, Result<Option<Arc<RunNetwork>>, LaunchError>> {
        self.change(record, change).boxed()
    }

    fn release<'a>(
        &'a self,
        record: &'a ContainerRecord,
    ) -> BoxFuture<'a, Result<(), LaunchError>> {
        self.release_run(record).boxed()
    }

    fn remove<'a>(
        &'a self,
        record: &'a ContainerRecord,
        volumes: bool,
    ) -> BoxFuture<'a, Result<(), LaunchError>> {
        async move {
            self.release_run(record).await?;
            let id = record.id.clone();
            self.block(move |core| core.remove(&id)).await?;
            let own: Vec<String> = record
                .spec
                .volumes()
                .filter(|(volume, _)| volumes && volume.own)
                .map(|(volume, _)| volume.name.clone())
                .collect();
            let service = &self.core.volumes;
            Ok(service
                .let_go(&record.id, &volume_names(record), &own)
                .await?)
        }
        .boxed()
    }

    fn observe<'a>(&'a self, record: &'a ContainerRecord) -> BoxFuture<'a, Found> {
        async move {
            let nothing = |observation| Found {
                observation,
                notes: Vec::new(),
                network: None,
                facts: None,
                execs: Vec::new(),
            };
            let directory = self.core.host.container_run(&record.id);
            if !berth_sys::fs::exists(&directory) {
                return nothing(Observation::Nothing);
            }
            let connected = match berth_monitor::connect(&directory).await {
                Ok(connected) => connected,
                Err(error) => {
                    tracing::error!(container = %record.id, %error, "a monitor does not answer");
                    None
                }
            };
            if let Some(handle) = connected {
                let status = handle.first_status().clone();
                let observation = match status.state {
                    RunState::Running | RunState::Paused => Observation::Running {
                        pid: u32::try_from(status.pid).unwrap_or(0),
                        paused: status.state == RunState::Paused,
                    },
                    RunState::Created => Observation::Prepared,
                    RunState::Exited => {
                        handle.gone().await;
                        return nothing(self.ended(&directory).await);
                    }
                };
                let facts =
                    matches!(observation, Observation::Running { .. }).then(|| translate(&handle));
                self.handles().insert(record.id.clone(), handle);
                let names = volume_names(record);
                self.core.volumes.adopt(&record.id, &names);
                let network = self.adopt_network(record).await;
                return Found {
                    observation,
                    notes: status.notes,
                    network,
                    facts,
                    execs: status
                        .execs
                        .into_iter()
                        .filter(|e| e.ended.is_none())
                        .map(|e| (e.id, u32::try_from(e.pid).unwrap_or(0)))
                        .collect(),
                };
            }
            nothing(self.ended(&directory).await)
        }
        .boxed()
    }

    fn attach<'a>(
        &'a self,
        id: &'a ContainerId,
        wanted: Streams,
    ) -> BoxFuture<'a, Result<UnixStream, LaunchError>> {
        async move {
            self.handle(id)?
                .attach(streams(wanted))
                .await
                .map_err(|e| of_run(id, &format!("attach to container {id}"), &e))
        }
        .boxed()
    }

    fn exec<'a>(
        &'a self,
        id: &'a ContainerId,
        plan: ExecPlan,
    ) -> BoxFuture<'a, Result<ExecRun, LaunchError>> {
        async move {
            let request = ExecRequest {
                id: plan.id.as_str().to_owned(),
                process: plan.process,
                streams: streams(plan.streams),
            };
            let started = self.handle(id)?.exec(request).await.map_err(|e| {
                let mut error = of_run(id, "", &e);
                if error.exit_code == 128 {
                    // As Docker does where it does not know better.
                    error.exit_code = 126;
                }
                error
            })?;
            Ok(ExecRun {
                pid: u32::try_from(started.pid).unwrap_or(0),
                stream: started.stream,
            })
        }
        .boxed()
    }

    fn signal_exec<'a>(
        &'a self,
        id: &'a ContainerId,
        exec: &'a str,
        signal: Signal,
    ) -> BoxFuture<'a, Result<(), LaunchError>> {
        async move {
            self.handle(id)?
                .exec_kill(exec, signal)
                .await
                .map_err(|e| of_run(id, &format!("send {signal} to exec session {exec}"), &e))
        }
        .boxed()
    }

    fn resize<'a>(
        &'a self,
        id: &'a ContainerId,
        exec: Option<&'a str>,
        size: TerminalSize,
    ) -> BoxFuture<'a, Result<(), LaunchError>> {
        async move {
            let size = ConsoleSize {
                rows: size.height,
                columns: size.width,
            };
            self.handle(id)?
                .resize(exec, size)
                .await
                .map_err(|e| of_run(id, &format!("resize the terminal of container {id}"), &e))
        }
        .boxed()
    }

    fn processes<'a>(
        &'a self,
        id: &'a ContainerId,
    ) -> BoxFuture<'a, Result<Vec<u32>, LaunchError>> {
        async move {
            let pids =
                self.handle(id)?.processes().await.map_err(|e| {
                    of_run(id, &format!("list the processes of container {id}"), &e)
                })?;
            Ok(pids
                .into_iter()
                .filter_map(|p| u32::try_from(p).ok())
                .collect())
        }
        .boxed()
    }
}

impl Monitors {
    /// Takes up what a running container has in networks.
    async fn adopt_network(&self, record: &ContainerRecord) -> Option<Arc<RunNetwork>> {
        let id = record.id.clone();
        match self.block(move |core| core.kept_network(&id)).await {
            Ok(run) => {
                let run = run?;
                let networks = &self.core.networks;
                networks.adopt(&record.id, &record.name, run);
                networks.run(&record.id)
            }
            Err(error) => {
                tracing::error!(container = %record.id, error = error.message, "what a container has in networks cannot be told");
                None
            }
        }
    }

    /// What an ended run left: its exit record, or what can be saved of it.
    async fn ended(&self, directory: &Path) -> Observation {
        let directory = directory.to_path_buf();
        let found = self
            .block(move |_| {
                if let Some(record) = berth_monitor::read_exit_record(&directory)
                    .map_err(|e| of_monitor("read the exit record", &e))?
                {
                    // A program that never ran is told by the answer to its start, not by an exit.
                    let ran = record.started_at.is_some();
                    return Ok(ran.then_some(record));
                }
                if !berth_sys::fs::exists(&directory.join(berth_monitor::LAUNCH_FILE)) {
                    return Ok(None);
                }
                berth_monitor::salvage(&directory)
                    .map_err(|e| of_monitor("end what is left of a run", &e))
            })
            .await;
        match found {
            Ok(Some(record)) => Observation::Exited(exit_fact(&record)),
            Ok(None) => Observation::Prepared,
            Err(error) => {
                tracing::error!(error = error.message, "the end of a run cannot be told");
                Observation::Prepared
            }
        }
    }
}
