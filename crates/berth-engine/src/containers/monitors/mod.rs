//! The launcher of real monitor processes.
//!
//! Owns the connections to monitors, and the order of a start: directories → `config.json` → monitor →
//! pending clients → program. Decides nothing.

mod joining;
mod preparing;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use berth_image::ImageStore;
use berth_monitor::{
    ConsoleSize, ExecRequest, LaunchDescriptors, LaunchRequest, MonitorError, MonitorEvent,
    MonitorHandle, NetworkLaunch, RunState, Spares,
};
use berth_sys::executable::SealedExecutable;
use berth_types::{ContainerId, ErrorKind, Signal};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::clients::PendingClients;
use super::index::Index;
use super::launcher::{ExecPlan, ExecRun, Found, LaunchError, Launcher, Run, RunFact, Streams};
use super::lifecycle::{ExitFact, Fact, NetworkChange, Observation};
use super::networking;
use super::oci;
use super::record::ContainerRecord;
use super::requests::TerminalSize;
use super::spec::Resources;
use super::surroundings::{self, Lookups};
use crate::clock;
use crate::error::EngineError;
use crate::host::Host;
use crate::limits;
use crate::networks::{Joined, Networks, RunNetwork};

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
    pub fn new(
        host: Arc<Host>,
        images: ImageStore,
        index: Index,
        networks: Networks,
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

    async fn launch(
        &self,
        record: &ContainerRecord,
        clients: &PendingClients,
    ) -> Result<Run, LaunchError> {
        let _place = self.launches.acquire().await;
        let (mut request, joined) = self.prepare(record).await?;
        // Those who wait are attached by the same message that makes the container and starts it.
        let mut replies = Vec::new();
        let mut attach = Vec::new();
        for client in clients.take(berth_monitor::ATTACHED_AT_LAUNCH) {
            let (ours, theirs) = stream_pair()?;
            attach.push((streams(client.streams), theirs));
            replies.push((client.reply, ours));
        }
        request.start = clients.is_empty();
        let network = joined.as_ref().map(|j| Arc::clone(&j.run));
        let descriptors =
            joined.map_or_else(LaunchDescriptors::default, |j| describe(&mut request, j));
        let launched = self.spares.launch(&request, descriptors, attach).await;
        self.spares.refill();
        let (handle, created) = match launched {
            Ok(launched) => launched,
            Err(error) => {
                let over = self.over_already(&request.bundle, &error).await?;
                connect(replies);
                return Ok(over);
            }
        };
        connect(replies);
        let started: Result<(), MonitorError> = async {
            if !created.started {
                for client in clients.take(usize::MAX) {
                    let stream = handle.attach(streams(client.streams)).await?;
                    let _ = client.reply.send(stream);
                }
                handle.start().await?;
            }
            Ok(())
        }
        .await;
        if let Err(error) = started {
            end(&handle).await;
            return self.over_already(&request.bundle, &error).await;
        }
        let at = clock::now();
        self.handles().insert(record.id.clone(), handle.clone());
        // Those who came while it was starting.
        for client in clients.connect() {
            if let Ok(stream) = handle.attach(streams(client.streams)).await {
                let _ = client.reply.send(stream);
            }
        }
        Ok(Run {
            pid: u32::try_from(created.pid).unwrap_or(0),
            at,
            notes: created.notes,
            network,
            facts: translate(&handle),
        })
    }

    /// Makes directories, files and networks, the one beside the other.
    async fn prepare(
        &self,
        record: &ContainerRecord,
    ) -> Result<(LaunchRequest, Option<Joined>), LaunchError> {
        let networks = &self.core.networks;
        let config = self.core.host.config();
        let asked = networking::join_request(record, &config, networks)?;
        let reservation = match asked {
            Some(asked) => Some(networks.reserve(&record.id, asked)?),
            None => None,
        };
        let endpoints = reservation
            .iter()
            .flat_map(|r| r.endpoints().cloned())
            .collect();
        let places = networking::places(record, endpoints, networks, &self.core.index)?;
        let wants_bridge = record
            .spec
            .host
            .extra_hosts
            .iter()
            .any(|h| h.ends_with("host-gateway"));
        if wants_bridge && config.network.host_gateway_ips.is_empty() {
            networks.ensure_default_bridge().await?;
        }
        let for_work = record.clone();
        let prepared = self.block(move |core| core.prepare(&for_work, &places));
        let attached = async {
            match reservation {
                Some(reservation) => networks.attach(reservation).await.map(Some),
                None => Ok(None),
            }
        };
        let (prepared, attached) = tokio::join!(prepared, attached);
        let request = prepared?;
        let joined = attached?;
        if let Some(joined) = &joined {
            let (run, id) = (Arc::clone(&joined.run), record.id.clone());
            self.block(move |core| core.keep_network(&id, &run)).await?;
        }
        Ok((request, joined))
    }

    /// A monitor that is gone before it answered may have run a very short program: then its exit record says
    /// so, and the run is one that has ended.
    async fn over_already(
        &self,
        directory: &Path,
        error: &MonitorError,
    ) -> Result<Run, LaunchError> {
        if !matches!(error, MonitorError::Gone { .. }) {
            return Err(of_monitor("", error));
        }
        let directory = directory.to_path_buf();
        let found = self
            .block(move |_| {
                berth_monitor::read_exit_record(&directory)
                    .map_err(|e| of_monitor("read the exit record", &e))
            })
            .await?;
        let ran = found.and_then(|record| Some((record.started_at?, record)));
        let Some((at, record)) = ran else {
            return Err(of_monitor("", error));
        };
        let (sender, facts) = mpsc::channel(1);
        let _ = sender.try_send(RunFact::Life(Fact::Exited(exit_fact(&record))));
        Ok(Run {
            pid: u32::try_from(record.pid).unwrap_or(0),
            at,
            notes: Vec::new(),
            network: None,
            facts,
        })
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
        self.block(move |core| core.release_run(&id, &directory))
            .await?;
        Ok(left?)
    }
}

/// Tells the monitor of a container's networks, and gathers what it keeps of them.
fn describe(request: &mut LaunchRequest, joined: Joined) -> LaunchDescriptors {
    let (keys, ports) = joined.ports.into_iter().unzip();
    let (dns, sockets) = match joined.dns {
        Some((settings, Some(sockets))) => (Some(settings), Some(sockets)),
        _ => (None, None),
    };
    request.network = joined.namespace.is_some().then_some(NetworkLaunch {
        namespace: true,
        dns,
        ports: keys,
    });
    LaunchDescriptors {
        namespace: joined.namespace,
        dns: sockets,
        ports,
    }
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

/// A stream for a client, and the monitor's end of it.
fn stream_pair() -> Result<(UnixStream, OwnedFd), LaunchError> {
    let fail = |e: &(dyn std::error::Error + 'static)| {
        surroundings::failed("make a stream for a client", ErrorKind::Internal, e)
    };
    let (ours, theirs) = StdUnixStream::pair().map_err(|e| fail(&e))?;
    ours.set_nonblocking(true).map_err(|e| fail(&e))?;
    let ours = UnixStream::from_std(ours).map_err(|e| fail(&e))?;
    Ok((ours, theirs.into()))
}

/// Hands streams to those who wait for them.
fn connect(replies: Vec<(oneshot::Sender<UnixStream>, UnixStream)>) {
    for (reply, stream) in replies {
        let _ = reply.send(stream);
    }
}

fn streams(wanted: Streams) -> berth_monitor::Streams {
    berth_monitor::Streams {
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    }
}

fn exit_fact(record: &berth_monitor::ExitRecord) -> ExitFact {
    ExitFact {
        code: record.exit_code,
        out_of_memory: record.oom_killed,
        at: record.finished_at,
    }
}

/// The events of a monitor in the engine's words. Ends with the monitor; a monitor that ends without telling
/// of the exit is looked for in the exit record.
fn translate(handle: &MonitorHandle) -> mpsc::Receiver<RunFact> {
    let (sender, receiver) = mpsc::channel(limits::OWNER_SIGNALS);
    let directory = handle.directory().to_path_buf();
    let events = handle.events();
    let handle = handle.clone();
    tokio::spawn(async move {
        let mut exited = false;
        if let Some(mut events) = events {
            while let Some(event) = events.recv().await {
                let fact = match event {
                    MonitorEvent::Exited(record) => {
                        exited = true;
                        RunFact::Life(Fact::Exited(exit_fact(&record)))
                    }
                    MonitorEvent::ExecExited {
                        exec, exit_code, ..
                    } => RunFact::ExecExited {
                        exec,
                        code: exit_code,
                    },
                    MonitorEvent::Oom { .. } => RunFact::Life(Fact::OutOfMemory),
                    MonitorEvent::LeftBehind { message } => {
                        // The release of the run, or the removal, tries again and tells whoever asked.
                        tracing::debug!(directory = %directory.display(), message, "a run left something behind");
                        continue;
                    }
                };
                if sender.send(fact).await.is_err() {
                    return;
                }
            }
        }
        if exited {
            return;
        }
        handle.gone().await;
        let found = tokio::task::spawn_blocking(move || berth_monitor::salvage(&directory)).await;
        let fact = match found {
            Ok(Ok(record)) => Fact::Exited(exit_fact(&record)),
            _ => Fact::MonitorLost,
        };
        let _ = sender.send(RunFact::Life(fact)).await;
    });
    receiver
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
                Err(MonitorError::Gone { .. }) => Ok(()),
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
                .map_err(|e| of_monitor(&format!("cannot pause container {id}"), &e))
        }
        .boxed()
    }

    fn thaw<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), LaunchError>> {
        async move {
            self.handle(id)?
                .resume()
                .await
                .map_err(|e| of_monitor(&format!("cannot resume container {id}"), &e))
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
            handle
                .update(limits)
                .await
                .map_err(|e| of_monitor(&format!("cannot update container {}", record.id), &e))
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
        _volumes: bool,
    ) -> BoxFuture<'a, Result<(), LaunchError>> {
        async move {
            self.release_run(record).await?;
            let id = record.id.clone();
            self.block(move |core| core.remove(&id)).await
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
                .map_err(|e| of_monitor(&format!("attach to container {id}"), &e))
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
                let mut error = of_monitor("", &e);
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
                .map_err(|e| of_monitor(&format!("send {signal} to exec session {exec}"), &e))
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
                .map_err(|e| of_monitor(&format!("resize the terminal of container {id}"), &e))
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
                    of_monitor(&format!("list the processes of container {id}"), &e)
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
                    .map(Some)
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
