//! From a request to a spec: image and request merged, defaults of the daemon filled in, mounts resolved.
//!
//! Pure but for the image's document, which the caller reads.

use berth_types::image_config::ImageConfig;
use berth_types::{ContainerId, Digest, Platform};
use indexmap::IndexMap;

use super::merge;
use super::mounts::{self, Mounts};
use super::spec::{ContainerSpec, CreateRequest, IpcMode, MountPoint, NetworkMode, UtsMode};
use super::verify;
use crate::config::Config;
use crate::error::EngineError;
use crate::limits;
use crate::system::HostFeatures;
use crate::volumes::Wanted;

/// What a container is made from.
#[derive(Debug)]
pub struct Source {
    /// The image.
    pub image: Digest,
    /// Its platform.
    pub platform: Platform,
    /// What it says about running it.
    pub config: ImageConfig,
}

/// A new container, but for its volumes.
#[derive(Debug)]
pub(super) struct Planned {
    /// Its spec; mounts of volumes do not say yet where these are.
    pub(super) spec: ContainerSpec,
    /// The volumes it mounts, by place in the spec's mounts.
    pub(super) volumes: Vec<(usize, Wanted)>,
    /// What was not done as asked.
    pub(super) warnings: Vec<String>,
}

/// The spec of a new container; `inherited` are the mounts it takes over from others.
///
/// # Errors
/// When the request makes no sense, or asks for what is not there yet.
pub(super) fn plan(
    id: &ContainerId,
    request: CreateRequest,
    source: Source,
    config: &Config,
    features: &HostFeatures,
    inherited: Vec<MountPoint>,
) -> Result<Planned, EngineError> {
    let CreateRequest {
        config: asked,
        mut host,
        endpoints,
        ..
    } = request;
    let mut merged = merge::merge(asked, &source.config)?;
    verify::config(&mut merged)?;
    let warnings = verify::host(&mut host, features)?;
    if config.runtime(&host.runtime).is_none() {
        return Err(EngineError::Invalid(format!(
            "unknown or invalid runtime name: {}",
            host.runtime
        )));
    }
    if host.runtime.is_empty() {
        host.runtime.clone_from(&config.default_runtime);
    }
    let own_name = host.uts == UtsMode::Default && host.network_mode != NetworkMode::Host;
    if merged.hostname.is_empty() && own_name {
        id.short().clone_into(&mut merged.hostname);
    }
    if host.uts == UtsMode::Host && !merged.hostname.is_empty() {
        return Err(EngineError::Invalid(
            "conflicting options: hostname and the UTS mode".to_owned(),
        ));
    }
    if merged.hostname.is_empty() {
        merged.hostname = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
    }
    if host.shm_size.is_none_or(|s| s == 0) {
        host.shm_size = Some(config.shm_size.unwrap_or(limits::SHM_SIZE_DEFAULT));
    }
    if host.ipc == IpcMode::Default {
        host.ipc = IpcMode::Private;
    }
    if host.oom_score_adj == 0 {
        host.oom_score_adj = config.oom_score_adjust;
    }
    fill_log(&mut host.log, config);
    for ulimit in &config.ulimits {
        if !host.resources.ulimits.iter().any(|u| u.name == ulimit.name) {
            host.resources.ulimits.push(ulimit.clone());
        }
    }
    let Mounts { points, volumes } = mounts::resolve(&host, &merged.volumes, inherited)?;
    if !host.storage_opt.is_empty() {
        return Err(EngineError::Invalid(
            "--storage-opt is not supported by the overlay driver".to_owned(),
        ));
    }
    let (path, args) = merge::command(&merged);
    let spec = ContainerSpec {
        config: merged,
        host,
        endpoints,
        image_id: source.image,
        platform: source.platform,
        path,
        args,
        mounts: points,
    };
    Ok(Planned {
        spec,
        volumes,
        warnings,
    })
}

/// The daemon's log driver where none was asked, with its options where the driver is the same.
fn fill_log(log: &mut super::spec::LogSettings, config: &Config) {
    if log.driver.is_empty() {
        log.driver.clone_from(&config.log.driver);
    }
    if log.driver == config.log.driver {
        let mut options: IndexMap<String, String> = config.log.options.clone();
        options.extend(std::mem::take(&mut log.options));
        log.options = options;
    }
}
