//! Containers: the service that callers ask.
//!
//! Finds the container that is meant, asks its owner (the only writer of its record), and hands out
//! snapshots to readers. Streams of bytes go straight to the monitor or a file, never through an owner.

pub mod accounts;
pub mod announce;
mod answers;
mod attach;
pub mod clients;
pub mod create;
mod effects;
pub mod etc;
pub mod files;
pub mod health;
pub mod index;
pub mod launcher;
pub mod lifecycle;
pub mod links;
pub mod list;
pub mod logs;
pub mod merge;
#[cfg(test)]
mod model_tests;
pub mod monitors;
mod mounts;
pub mod names;
pub mod networking;
pub mod oci;
pub mod owner;
pub mod phase;
mod probing;
pub mod record;
pub mod requests;
pub mod seccomp_profile;
#[cfg(test)]
pub(crate) mod simulated;
pub mod spec;
pub mod stats;
pub mod stream;
pub mod surroundings;
#[cfg(test)]
pub(crate) mod test_support;
pub mod top;
mod update;
pub mod verify;
pub mod view;
mod volumes;

use std::sync::Arc;

use berth_image::{ImageLease, ImageStore};
use berth_types::{ContainerId, Signal};
use tokio::sync::oneshot;

use self::index::ContainerHandle;
use self::lifecycle::Request;
use self::logs::LogStream;
use self::owner::{Ask, Environment};
use self::phase::Phase;
use self::record::ContainerRecord;
use self::requests::{
    ContainerSize, Created, ListOptions, LogOptions, ProcessTable, Pruned, RemoveOptions,
    StopOptions, UpdateRequest, WaitCondition, WaitOutcome,
};
use self::spec::{CreateRequest, IpcMode, NetworkMode, PidMode};
use self::stats::StatsStream;
use self::view::ContainerView;
use crate::clock;
use crate::error::EngineError;
use crate::events::EventKind;
use crate::filters::Filters;
use crate::limits;
use crate::random;
use crate::records::Ticket;
use crate::volumes::Volumes;

/// The service. Cheap to clone.
///
/// A container's reference is its id, a prefix of it that no other has, or its name (a leading slash is
/// ignored). Every operation that changes something goes on when its caller hangs up.
#[derive(Debug, Clone)]
pub struct Containers {
    environment: Environment,
    images: ImageStore,
    volumes: Volumes,
    roots: files::roots::Roots,
}

/// A wait that has been registered; what it waits for cannot be missed any more.
#[derive(Debug)]
pub struct Waiting {
    handle: ContainerHandle,
    outcome: oneshot::Receiver<WaitOutcome>,
}

impl Waiting {
    /// What it ends with.
    pub async fn outcome(self) -> WaitOutcome {
        self.outcome.await.unwrap_or_else(|_| {
            // The container went, or its owner was made anew: its last snapshot says how it ended.
            let view = self.handle.view();
            WaitOutcome {
                code: i64::from(view.last.exit_code),
                error: Some(view.last.error.clone()).filter(|e| !e.is_empty()),
            }
        })
    }
}

fn defect(error: tokio::task::JoinError) -> EngineError {
    EngineError::Internal(format!("a defect in the engine: {error}"))
}

impl Containers {
    pub(crate) fn new(
        environment: Environment,
        images: ImageStore,
        volumes: Volumes,
        roots: files::roots::Roots,
    ) -> Self {
        Self {
            environment,
            images,
            volumes,
            roots,
        }
    }

    fn find(&self, reference: &str) -> Result<ContainerHandle, EngineError> {
        self.environment.index.find(reference)
    }

    /// Asks a container's owner and waits for the answer.
    async fn ask(&self, handle: &ContainerHandle, request: Request) -> Result<(), EngineError> {
        let answer = handle.ask(|reply| Ask::Request(request, reply)).await;
        answer.unwrap_or_else(|| {
            Err(EngineError::NotFound(format!(
                "No such container: {}",
                handle.id
            )))
        })
    }

    /// Makes a container. Durable when it answers, unless it removes itself.
    ///
    /// # Errors
    /// `NotFound` when the image is not there, `Conflict` when the name is in use, `Invalid` for what makes
    /// no sense, `NotImplemented` for what is not there yet.
    pub async fn create(&self, request: CreateRequest) -> Result<Created, EngineError> {
        let service = self.clone();
        // In a task of its own: a caller that hangs up does not leave half a container.
        tokio::spawn(async move { service.create_now(request).await })
            .await
            .map_err(defect)?
    }

    async fn create_now(&self, mut request: CreateRequest) -> Result<Created, EngineError> {
        let id = ContainerId::from_random(random::bytes()?);
        let reservation = self.reserve(request.name.as_deref(), &id)?;
        self.adapt_shared(&mut request)?;
        let host = Arc::clone(&self.environment.host);
        let config = host.config();
        let (images, wanted) = (self.images.clone(), request.platform.clone());
        let reference = request.config.image.clone();
        let source = tokio::task::spawn_blocking(move || source(&images, &reference, wanted))
            .await
            .map_err(defect)??;
        // Until the container is in the index, where removals of images look.
        let _lease = source.2;
        let platform_warning = source.1;
        let inherited = self.inherited(&request.host.volumes_from)?;
        let create::Planned {
            mut spec,
            volumes,
            mut warnings,
        } = create::plan(&id, request, source.0, &config, &host.features, inherited)?;
        networking::ports_of(&spec.config, &spec.host)?;
        let attachments = networking::configure(
            &spec.config,
            &spec.host,
            &spec.endpoints,
            &self.environment.networks,
        )?;
        warnings.extend(platform_warning);
        let volumes = self.prepare_volumes(&id, &mut spec, volumes).await?;
        self.environment.networks.expect(attachments.keys());
        let mut record = ContainerRecord::new(
            id.clone(),
            reservation.name().to_owned(),
            clock::now(),
            spec,
        );
        record.networks = attachments;
        // Refused now rather than at the start.
        monitors::log_settings(&host, &record).map_err(EngineError::from)?;
        let records = &self.environment.records;
        let ticket = records.insert(&record, volumes.fresh()).await?;
        // One that removes itself is promised to nobody beyond the end of this daemon until it runs; whoever starts
        // it is answered when this save is durable. Volumes of its own are not found before they are on disk.
        let alone = volumes.fresh().is_empty();
        let unsaved = if record.spec.host.auto_remove && alone && records.has_room() {
            Some(ticket)
        } else {
            ticket.durable().await?;
            None
        };
        if let Err(error) = volumes.keep().await {
            // Its start does this again, and tells.
            tracing::debug!(container = %id, error = %error.full_text(), "a volume has not got its name");
        }
        reservation.keep();
        let handle = self.adopt(record.clone(), unsaved);
        self.environment.index.insert(handle);
        announce::of_record(&self.environment.events, &record, "create", &[]);
        Ok(Created { id, warnings })
    }

    /// Starts the owner of a stored container, or of one whose save is under way.
    pub(crate) fn adopt(
        &self,
        record: ContainerRecord,
        unsaved: Option<Ticket>,
    ) -> ContainerHandle {
        let spec = &record.spec;
        let paths = self.environment.host.container_paths(
            &record.id,
            &spec.host.log,
            etc::is_private(&spec.host.network_mode),
        );
        owner::start(self.environment.clone(), record, paths, unsaved)
    }

    fn reserve(
        &self,
        wanted: Option<&str>,
        id: &ContainerId,
    ) -> Result<index::Reservation, EngineError> {
        let index = &self.environment.index;
        if let Some(name) = wanted.filter(|n| !n.is_empty()) {
            return index.reserve(names::check(name)?, id);
        }
        for attempt in 0..limits::NAME_ATTEMPTS {
            let name = names::random(random::bytes()?, attempt);
            if let Ok(reservation) = index.reserve(&name, id) {
                return Ok(reservation);
            }
        }
        index.reserve(id.short(), id)
    }

    /// Turns names of other containers into ids, so that a later rename changes nothing.
    fn adapt_shared(&self, request: &mut CreateRequest) -> Result<(), EngineError> {
        let host = &mut request.host;
        if let NetworkMode::Container(other) = &mut host.network_mode {
            let shared = self.find(other)?.view();
            *other = shared.id.as_str().to_owned();
            if !request.config.hostname.is_empty() {
                return Err(EngineError::Invalid(
                    "conflicting options: hostname and the network mode".to_owned(),
                ));
            }
            // Who shares a network is known there by one name.
            if host.uts == spec::UtsMode::Default {
                let (own, theirs) = (&mut request.config, &shared.spec.config);
                own.hostname.clone_from(&theirs.hostname);
                own.domainname.clone_from(&theirs.domainname);
            }
        }
        if let IpcMode::Container(other) = &mut host.ipc {
            *other = self.find(other)?.id.as_str().to_owned();
        }
        if let PidMode::Container(other) = &mut host.pid {
            *other = self.find(other)?.id.as_str().to_owned();
        }
        Ok(())
    }

    /// Runs it.
    ///
    /// # Errors
    /// `Unchanged` when it runs already; `Start` when its program cannot be run.
    pub async fn start(&self, reference: &str) -> Result<(), EngineError> {
        let handle = self.find(reference)?;
        self.images.note_use(&handle.view().spec.image_id);
        self.ask(&handle, Request::Start).await
    }

    /// Asks it to end, and forces it after its time.
    ///
    /// # Errors
    /// `Unchanged` when it does not run.
    pub async fn stop(&self, reference: &str, options: StopOptions) -> Result<(), EngineError> {
        self.ask(&self.find(reference)?, Request::Stop(options))
            .await
    }

    /// Stops it if it runs, and starts it.
    ///
    /// # Errors
    /// As `stop` and `start`.
    pub async fn restart(&self, reference: &str, options: StopOptions) -> Result<(), EngineError> {
        self.ask(&self.find(reference)?, Request::Restart(options))
            .await
    }

    /// Sends a signal, SIGKILL when none is given. SIGKILL is waited for, others are not.
    ///
    /// # Errors
    /// `Conflict` when it does not run.
    pub async fn kill(&self, reference: &str, signal: Option<Signal>) -> Result<(), EngineError> {
        let handle = self.find(reference)?;
        self.ask(&handle, Request::Kill(signal.unwrap_or(Signal::KILL)))
            .await
    }

    /// Freezes it.
    ///
    /// # Errors
    /// `Conflict` when it does not run or is frozen.
    pub async fn pause(&self, reference: &str) -> Result<(), EngineError> {
        self.ask(&self.find(reference)?, Request::Pause).await
    }

    /// Freezes it while its files are looked at; thawed by `unpause`, or by the next daemon when this one ends.
    async fn hold_still(&self, reference: &str) -> Result<(), EngineError> {
        self.ask(&self.find(reference)?, Request::HoldStill).await
    }

    /// Thaws it.
    ///
    /// # Errors
    /// `Conflict` when it is not frozen.
    pub async fn unpause(&self, reference: &str) -> Result<(), EngineError> {
        self.ask(&self.find(reference)?, Request::Unpause).await
    }

    /// Gives it another name.
    ///
    /// # Errors
    /// `Conflict` when the name is in use, `Invalid` when it is none or the present one.
    pub async fn rename(&self, reference: &str, name: &str) -> Result<(), EngineError> {
        let name = name.trim();
        if name.trim_start_matches('/').is_empty() {
            return Err(EngineError::Invalid(
                "Neither old nor new names may be empty".to_owned(),
            ));
        }
        let handle = self.find(reference)?;
        let service = self.clone();
        let name = names::check(name)?.to_owned();
        tokio::spawn(async move {
            let old = handle.view().name.clone();
            if old == name {
                return Err(EngineError::Invalid(
                    "Renaming a container with the same name as its current name".to_owned(),
                ));
            }
            let reservation = service.environment.index.reserve(&name, &handle.id)?;
            service.ask(&handle, Request::Rename(name)).await?;
            reservation.keep();
            service.environment.index.release_name(&old);
            Ok(())
        })
        .await
        .map_err(defect)?
    }

    /// Registers a wait at once (so that headers can be sent), and hands back what to await.
    ///
    /// # Errors
    /// `NotFound` when there is no such container.
    pub async fn wait(
        &self,
        reference: &str,
        condition: WaitCondition,
    ) -> Result<Waiting, EngineError> {
        let handle = self.find(reference)?;
        let registered = handle.ask(|reply| Ask::Wait(condition, reply)).await;
        let outcome = registered
            .ok_or_else(|| EngineError::NotFound(format!("No such container: {reference}")))?;
        Ok(Waiting { handle, outcome })
    }

    /// Removes it with everything it owns.
    ///
    /// # Errors
    /// `Conflict` when it runs and `force` is not given.
    pub async fn remove(&self, reference: &str, options: RemoveOptions) -> Result<(), EngineError> {
        let handle = self.find(reference)?;
        self.ask(&handle, Request::Remove(options))
            .await
            .map_err(|error| match error {
                EngineError::Conflict(text) if !text.starts_with("removal of container") => {
                    EngineError::Conflict(format!(
                        "cannot remove container \"{reference}\": {text}"
                    ))
                }
                other => other,
            })
    }

    /// Removes every container that does not run. Filters: `until`, `label`, `label!`.
    ///
    /// # Errors
    /// When a filter makes no sense.
    pub async fn prune(&self, filters: &Filters) -> Result<Pruned, EngineError> {
        let wanted = list::prunable(filters)?;
        let mut pruned = Pruned::default();
        for handle in self.environment.index.all() {
            let view = handle.view();
            if !wanted(&view) {
                continue;
            }
            let size = self.measure(&view).await.map_or(0, |s| s.writable);
            let request = Request::Remove(RemoveOptions::default());
            // Started since, or removed since: no failure of the prune.
            if self.ask(&handle, request).await.is_ok() {
                pruned.reclaimed += size;
                pruned.removed.push(view.id.as_str().to_owned());
            }
        }
        self.environment.events.publish(
            EventKind::Container,
            "prune",
            "",
            [("reclaimed".to_owned(), pruned.reclaimed.to_string())]
                .into_iter()
                .collect(),
        );
        Ok(pruned)
    }

    /// Reads its log.
    ///
    /// # Errors
    /// When the log's driver keeps nothing, or it cannot be read.
    pub async fn logs(
        &self,
        reference: &str,
        options: LogOptions,
    ) -> Result<LogStream, EngineError> {
        let handle = self.find(reference)?;
        logs::start(Arc::clone(&self.environment.host), handle, options).await
    }

    /// Its processes, as `ps` with these arguments shows them (empty: `-ef`).
    ///
    /// # Errors
    /// `Conflict` when it does not run.
    pub async fn top(&self, reference: &str, arguments: &str) -> Result<ProcessTable, EngineError> {
        let view = self.find(reference)?.view();
        if matches!(view.phase, Phase::Backoff { .. }) {
            return Err(EngineError::Conflict(format!(
                "container {} is restarting, wait until the container is running",
                view.id
            )));
        }
        if !view.is_running() {
            return Err(EngineError::Conflict(format!(
                "container {} is not running",
                view.id
            )));
        }
        let pids = self
            .environment
            .launcher
            .processes(&view.id)
            .await
            .map_err(EngineError::from)?;
        let table = top::table(&pids, arguments).await?;
        announce::of_view(&self.environment.events, &view, "top", &[]);
        Ok(table)
    }

    /// Samples of its use of resources. `stream`: go on; `one_shot`: do not wait for a second sample.
    ///
    /// # Errors
    /// `NotFound` when there is no such container.
    pub async fn stats(
        &self,
        reference: &str,
        stream: bool,
        one_shot: bool,
    ) -> Result<StatsStream, EngineError> {
        let handle = self.find(reference)?;
        Ok(stats::start(
            Arc::clone(&self.environment.host),
            handle,
            stream,
            one_shot,
        ))
    }

    /// Changes limits and restart policy; answers with warnings.
    ///
    /// # Errors
    /// `Invalid` for what makes no sense.
    pub async fn update(
        &self,
        reference: &str,
        request: UpdateRequest,
    ) -> Result<Vec<String>, EngineError> {
        let handle = self.find(reference)?;
        let view = handle.view();
        let mut resources = update::merge_resources(&view.resources, request.resources)?;
        let warnings = verify::resources(&mut resources, &self.environment.host.features, true)?;
        let request = UpdateRequest {
            resources,
            restart: request.restart,
        };
        self.ask(&handle, Request::Update(Box::new(request)))
            .await?;
        Ok(warnings)
    }

    /// Snapshots, newest first.
    ///
    /// # Errors
    /// When a filter makes no sense.
    pub fn list(&self, options: &ListOptions) -> Result<Vec<Arc<ContainerView>>, EngineError> {
        let images = &self.images;
        list::list(&self.environment.index, options, |view, ancestor| {
            if view.spec.config.image == ancestor {
                return true;
            }
            let Ok(image) = images.resolve(ancestor) else {
                return false;
            };
            if image.id == view.spec.image_id {
                return true;
            }
            // Made from it: its layers are the first ones of the container's image.
            images
                .resolve(&view.spec.image_id.to_string())
                .is_ok_and(|own| own.record.diff_ids.starts_with(&image.record.diff_ids))
        })
    }

    /// The snapshot of one.
    ///
    /// # Errors
    /// `NotFound` when there is no such container.
    pub fn inspect(&self, reference: &str) -> Result<Arc<ContainerView>, EngineError> {
        let view = self.find(reference)?.view();
        let execs = self.environment.sessions.of_container(&view.id);
        if execs.is_empty() {
            return Ok(view);
        }
        let mut view = (*view).clone();
        view.execs = execs;
        Ok(Arc::new(view))
    }

    /// Bytes it occupies (walks its writable layer).
    ///
    /// # Errors
    /// When its layer cannot be read.
    pub async fn size(&self, reference: &str) -> Result<ContainerSize, EngineError> {
        let view = self.find(reference)?.view();
        self.measure(&view).await
    }

    async fn measure(&self, view: &ContainerView) -> Result<ContainerSize, EngineError> {
        let (images, id, image) = (self.images.clone(), view.id.clone(), view.spec.image_id);
        tokio::task::spawn_blocking(move || {
            // A container that was never started has no layer of its own yet.
            let writable = images.rootfs_usage(&id).unwrap_or(0);
            let image = images.image_size(&image).unwrap_or(0);
            ContainerSize {
                writable,
                root: writable + image,
            }
        })
        .await
        .map_err(defect)
    }
}

/// Reads what a container is made from.
fn source(
    images: &ImageStore,
    reference: &str,
    wanted: Option<berth_types::Platform>,
) -> Result<(create::Source, Option<String>, ImageLease), EngineError> {
    let (image, lease) = images.take(reference)?;
    let document = images.document(&image.id)?;
    let platform = image.record.platform.clone();
    let mut warning = None;
    let host = berth_types::Platform::host();
    match &wanted {
        Some(wanted) if platform.suitability(wanted).is_none() => {
            return Err(EngineError::NotFound(format!(
                "image with reference {reference} was found but does not provide the specified platform ({wanted})"
            )));
        }
        None if platform.suitability(&host).is_none() => {
            warning = Some(format!(
                "The requested image's platform ({platform}) does not match the detected host platform ({host}) and no specific platform was requested"
            ));
        }
        _ => {}
    }
    let source = create::Source {
        image: image.id,
        platform,
        config: document.config,
    };
    Ok((source, warning, lease))
}
