//! An image made of a container.

use std::sync::Arc;

use berth_image::ImageStore;
use berth_image::progress::silent;
use berth_image::rootfs::rootfs_upper;
use berth_types::image_config::{HealthConfig, HistoryEntry, ImageConfig};
use berth_types::{Digest, Reference};
use indexmap::IndexMap;

use super::{check_phase, mount_points};
use crate::clock;
use crate::containers::spec::{ContainerConfig, HealthSettings, HealthTest};
use crate::containers::view::ContainerView;
use crate::containers::{Containers, announce, defect};
use crate::error::EngineError;
use crate::events::EventKind;
use crate::instructions;

/// What is asked of a commit.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// The name the image gets.
    pub name: Option<Reference>,
    /// Remark in its history.
    pub comment: String,
    /// Who made it.
    pub author: String,
    /// Whether the container is frozen meanwhile, if it runs.
    pub pause: bool,
    /// Instructions that change the configuration.
    pub changes: Vec<String>,
    /// Configuration to use instead of the container's, which fills in what this leaves open.
    pub config: Option<ContainerConfig>,
}

impl Containers {
    /// Makes an image of a container as it is.
    ///
    /// # Errors
    /// When an instruction cannot be understood, or the image cannot be stored.
    pub async fn commit(
        &self,
        reference: &str,
        request: CommitRequest,
    ) -> Result<Digest, EngineError> {
        let container = self.find(reference)?.view();
        check_phase(&container, "commit")?;
        // Refused before anything is frozen.
        let config = config(&container, &request)?;
        let service = self.clone();
        let subject = Arc::clone(&container);
        let name = request.name.clone();
        let comment = request.comment.clone();
        // In a task of its own: a caller that hangs up does not leave a frozen container.
        let id = tokio::spawn(async move {
            let freeze = request.pause && subject.is_running() && !subject.phase.is_paused();
            if freeze {
                service.hold_still(subject.id.as_str()).await?;
            }
            let (images, of) = (service.images.clone(), Arc::clone(&subject));
            let made = service
                .with_files(&subject, "commit", async {
                    tokio::task::spawn_blocking(move || make(&images, &of, request, config))
                        .await
                        .map_err(defect)?
                })
                .await;
            if freeze {
                match service.unpause(subject.id.as_str()).await {
                    // Ended or thawed by somebody else meanwhile.
                    Ok(()) | Err(EngineError::Conflict(_) | EngineError::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            made
        })
        .await
        .map_err(defect)??;
        let shown = name.as_ref().map(Reference::familiar).unwrap_or_default();
        announce::of_view(
            &self.environment.events,
            &container,
            "commit",
            &[
                ("comment", comment),
                ("imageID", id.to_string()),
                ("imageRef", shown.clone()),
            ],
        );
        if name.is_some() {
            let attributes = IndexMap::from([("name".to_owned(), shown)]);
            self.environment
                .events
                .publish(EventKind::Image, "tag", id.to_string(), attributes);
        }
        Ok(id)
    }
}

fn make(
    images: &ImageStore,
    container: &ContainerView,
    request: CommitRequest,
    config: ImageConfig,
) -> Result<Digest, EngineError> {
    let parent = images.made_of(&container.spec.image_id)?;
    let mut document = images.document(&parent.id)?;
    let mut assembly = images.assembly();
    let mut layers = assembly.layers_of(&parent)?;
    let rootfs = images.prepare_rootfs(&container.id, &parent.id)?;
    let upper = rootfs_upper(&rootfs)?;
    let layer = assembly.capture(&upper, &layers, &mount_points(), &silent())?;
    let now = clock::now().to_string();
    document.history.push(HistoryEntry {
        created: Some(now.clone()),
        created_by: container
            .spec
            .config
            .cmd
            .clone()
            .unwrap_or_default()
            .join(" "),
        author: request.author.clone(),
        comment: request.comment.clone(),
        empty_layer: layer.is_none(),
    });
    layers.extend(layer);
    document.created = Some(now);
    document.author = request.author;
    document.config = config;
    // What others wrote about the parent does not hold for this image.
    document.other.clear();
    if !request.comment.is_empty() {
        document
            .other
            .insert("comment".to_owned(), request.comment.into());
    }
    let names: Vec<Reference> = request.name.into_iter().collect();
    // What is in no list any more is nobody's parent; its layers are the new image's own from here on.
    let parent = (!parent.record.retired).then_some(parent.id);
    Ok(assembly.finish(document, layers, &names, parent)?)
}

/// The configuration of the new image.
fn config(container: &ContainerView, request: &CommitRequest) -> Result<ImageConfig, EngineError> {
    let own = of_container(&container.spec.config);
    let mut config = match &request.config {
        Some(given) => of_container(given),
        None => own.clone(),
    };
    instructions::apply(&mut config, &request.changes)?;
    fill(&mut config, &own);
    Ok(config)
}

/// Fills in what a configuration leaves open, by Docker's rules.
fn fill(config: &mut ImageConfig, from: &ImageConfig) {
    if config.user.is_empty() {
        config.user.clone_from(&from.user);
    }
    for (port, value) in &from.exposed_ports {
        config
            .exposed_ports
            .entry(port.clone())
            .or_insert_with(|| value.clone());
    }
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    for entry in &from.env {
        if !config.env.iter().any(|other| name(other) == name(entry)) {
            config.env.push(entry.clone());
        }
    }
    for (label, value) in &from.labels {
        config
            .labels
            .entry(label.clone())
            .or_insert_with(|| value.clone());
    }
    let lacks = |words: &Option<Vec<String>>| words.as_ref().is_none_or(Vec::is_empty);
    if lacks(&config.entrypoint) {
        if lacks(&config.cmd) {
            config.cmd.clone_from(&from.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&from.entrypoint);
        }
    }
    if config.healthcheck.is_none() {
        config.healthcheck.clone_from(&from.healthcheck);
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&from.working_dir);
    }
    for (path, value) in &from.volumes {
        config
            .volumes
            .entry(path.clone())
            .or_insert_with(|| value.clone());
    }
    if config.stop_signal.is_empty() {
        config.stop_signal.clone_from(&from.stop_signal);
    }
    if config.shell.is_none() {
        config.shell.clone_from(&from.shell);
    }
    if config.stop_timeout.is_none() {
        config.stop_timeout = from.stop_timeout;
    }
}

/// The part of a container's configuration that an image has too.
fn of_container(config: &ContainerConfig) -> ImageConfig {
    let set = |names: &indexmap::IndexSet<String>| -> IndexMap<String, serde_json::Value> {
        names
            .iter()
            .map(|name| {
                (
                    name.clone(),
                    serde_json::Value::Object(serde_json::Map::new()),
                )
            })
            .collect()
    };
    ImageConfig {
        user: config.user.clone(),
        exposed_ports: set(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        healthcheck: config.healthcheck.as_ref().map(health),
        args_escaped: config.args_escaped,
        volumes: set(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        on_build: config.on_build.clone(),
        shell: config.shell.clone(),
        other: IndexMap::new(),
    }
}

fn health(settings: &HealthSettings) -> HealthConfig {
    let nanoseconds =
        |duration: std::time::Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    HealthConfig {
        test: match &settings.test {
            HealthTest::Inherit => Vec::new(),
            HealthTest::Disabled => vec!["NONE".to_owned()],
            HealthTest::Command(words) => std::iter::once("CMD".to_owned())
                .chain(words.iter().cloned())
                .collect(),
            HealthTest::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
        },
        interval: nanoseconds(settings.interval),
        timeout: nanoseconds(settings.timeout),
        start_period: nanoseconds(settings.start_period),
        start_interval: nanoseconds(settings.start_interval),
        retries: settings.retries.into(),
    }
}
