//! The engine itself and the host it runs on.

mod budget;
mod check;
mod facts;
mod features;
mod roots;
mod usage;

use std::path::Path;
use std::sync::Arc;

use berth_image::ImageStore;
use berth_types::Platform;
use indexmap::IndexMap;

use crate::clock;
use crate::config::{Config, Runtime};
use crate::containers::Containers;
use crate::containers::index::Index;
use crate::containers::phase::Phase;
use crate::containers::requests::ListOptions;
use crate::error::EngineError;
use crate::events::{EventKind, Events};
use crate::host::Host;
use crate::volumes::Volumes;

pub use budget::DiskBudget;
pub(crate) use budget::{Growth, Housekeeping, keep};
pub use facts::{SecurityFacts, SystemInfo, VersionFacts};
pub use features::HostFeatures;
pub(crate) use roots::Roots;
pub use usage::DiskUsage;

pub use berth_image::{CheckReport, CheckRequest, Finding, KnownCredentials, Outcome, Part};

/// The version of Berth, as it is told to clients.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct System {
    host: Arc<Host>,
    index: Index,
    images: ImageStore,
    events: Events,
    containers: Containers,
    volumes: Volumes,
}

impl System {
    pub(crate) fn new(
        host: Arc<Host>,
        index: Index,
        images: ImageStore,
        events: Events,
        containers: Containers,
        volumes: Volumes,
    ) -> Self {
        Self {
            host,
            index,
            images,
            events,
            containers,
            volumes,
        }
    }

    /// The present settings.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.host.config()
    }

    /// What this host can do.
    #[must_use]
    pub fn features(&self) -> &HostFeatures {
        &self.host.features
    }

    /// Replaces the settings, and tells listeners. Roots stay those of the start.
    pub fn reload(&self, config: Config) {
        self.host.reload(Arc::new(config));
        self.events.publish(
            EventKind::Daemon,
            "reload",
            self.host.id.clone(),
            IndexMap::from([("name".to_owned(), hostname())]),
        );
    }

    /// Facts of the engine and its host.
    ///
    /// # Errors
    /// When the images cannot be counted.
    pub async fn info(&self) -> Result<SystemInfo, EngineError> {
        let service = self.clone();
        tokio::task::spawn_blocking(move || service.gather())
            .await
            .map_err(|e| EngineError::Internal(format!("a defect in the engine: {e}")))?
    }

    fn gather(&self) -> Result<SystemInfo, EngineError> {
        let config = self.host.config();
        let features = &self.host.features;
        let (mut running, mut paused, mut stopped) = (0, 0, 0);
        let handles = self.index.all();
        for handle in &handles {
            match handle.view().phase {
                Phase::Paused { .. } => paused += 1,
                ref phase if phase.is_running() => running += 1,
                _ => stopped += 1,
            }
        }
        let (operating_system, os_version) = operating_system();
        let mut runtimes: IndexMap<String, String> = IndexMap::new();
        for name in ["berth", "runc"] {
            runtimes.insert(name.to_owned(), "built-in".to_owned());
        }
        for (name, runtime) in &config.runtimes {
            let path = match runtime {
                Runtime::Builtin => "built-in".to_owned(),
                Runtime::Program { path, .. } => path.display().to_string(),
            };
            runtimes.insert(name.clone(), path);
        }
        let images = self
            .images
            .list(&berth_image::ListRequest::default())
            .map_err(EngineError::from)?
            .len();
        Ok(SystemInfo {
            id: self.host.id.clone(),
            containers: handles.len(),
            running,
            paused,
            stopped,
            images,
            storage_driver: "overlay2".to_owned(),
            storage_status: vec![
                (
                    "Backing Filesystem".to_owned(),
                    file_system(self.host.data_root()),
                ),
                ("Supports d_type".to_owned(), "true".to_owned()),
                ("Native Overlay Diff".to_owned(), "true".to_owned()),
            ],
            log_drivers: ["json-file", "local", "none"].map(str::to_owned).to_vec(),
            default_log_driver: config.log.driver.clone(),
            network_drivers: ["bridge", "host", "ipvlan", "macvlan", "null"]
                .map(str::to_owned)
                .to_vec(),
            volume_drivers: self.volumes.drivers(),
            cgroup_driver: "cgroupfs".to_owned(),
            cgroup_version: if features.cgroup_v2 { "2" } else { "1" }.to_owned(),
            memory_limit: features.controller("memory"),
            swap_limit: features.swap_limit,
            cpu_cfs: features.controller("cpu"),
            cpu_shares: features.controller("cpu"),
            cpu_set: features.controller("cpuset"),
            pids_limit: features.controller("pids"),
            oom_kill_disable: features.oom_kill_disable,
            ipv4_forwarding: features.ipv4_forwarding,
            kernel_version: features.kernel_release.clone(),
            operating_system,
            os_version,
            architecture: rustix::system::uname()
                .machine()
                .to_string_lossy()
                .into_owned(),
            processors: features.processors,
            memory: features.memory,
            hostname: hostname(),
            data_root: self.host.data_root().display().to_string(),
            debug: config.debug,
            open_files: berth_sys::fs::list(Path::new("/proc/self/fd")).map_or(0, |l| l.len()),
            listeners: self.events.listeners(),
            now: clock::now(),
            runtimes,
            default_runtime: config.default_runtime.clone(),
            security: SecurityFacts {
                seccomp: features.seccomp,
                seccomp_profile: if config.seccomp_profile.is_empty() {
                    "builtin".to_owned()
                } else {
                    config.seccomp_profile.clone()
                },
                apparmor: features.apparmor,
                cgroup_namespaces: features.cgroup_namespaces && features.cgroup_v2,
                no_new_privileges: config.no_new_privileges,
            },
            labels: config.labels.clone(),
            registry_mirrors: config.registry_mirrors.clone(),
            insecure_registries: config.insecure_registries.clone(),
            proxies: [&config.http_proxy, &config.https_proxy, &config.no_proxy]
                .map(|proxy| proxy.clone().unwrap_or_default()),
            init_binary: "docker-init".to_owned(),
            server_version: VERSION.to_owned(),
            warnings: warnings(features),
        })
    }

    /// Versions.
    #[must_use]
    pub fn version(&self) -> VersionFacts {
        let platform = Platform::host();
        VersionFacts {
            version: VERSION.to_owned(),
            kernel_version: self.host.features.kernel_release.clone(),
            os: platform.os,
            architecture: platform.architecture,
        }
    }

    /// What occupies the disk.
    ///
    /// # Errors
    /// When it cannot be measured.
    pub async fn disk_usage(&self) -> Result<DiskUsage, EngineError> {
        let views = self.containers.list(&ListOptions {
            all: true,
            ..ListOptions::default()
        })?;
        let (host, store) = (Arc::clone(&self.host), self.images.clone());
        let volumes = self.volumes.clone();
        tokio::task::spawn_blocking(move || {
            // What was removed is off the disk, or it would belong to nobody.
            store.wait_for_trash();
            DiskUsage::of(&host, &store, &volumes, views)
        })
        .await
        .map_err(|e| EngineError::Internal(format!("a defect in the engine: {e}")))?
    }
}

fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Name and version of the operating system: os-release(5).
fn operating_system() -> (String, String) {
    let text = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|p| berth_sys::fs::read_bounded(Path::new(p), 64 * 1024).ok())
        .map(|b| String::from_utf8_lossy(&b).into_owned())
        .unwrap_or_default();
    let field = |name: &str| {
        text.lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix('='))
            .map(|v| v.trim_matches(['"', '\'']).to_owned())
            .unwrap_or_default()
    };
    let name = field("PRETTY_NAME");
    let name = if name.is_empty() {
        "Linux".to_owned()
    } else {
        name
    };
    (name, field("VERSION_ID"))
}

/// The file system a path is on, by mountinfo.
fn file_system(path: &Path) -> String {
    berth_sys::proc::mounts()
        .ok()
        .and_then(|mounts| {
            mounts
                .into_iter()
                .filter(|m| path.starts_with(&m.mount_point))
                .max_by_key(|m| m.mount_point.as_os_str().len())
        })
        .map_or_else(|| "unknown".to_owned(), |m| m.kind)
}

fn warnings(features: &HostFeatures) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut unless = |has: bool, text: &str| {
        if !has {
            warnings.push(format!("WARNING: {text}"));
        }
    };
    unless(features.controller("memory"), "No memory limit support");
    unless(features.swap_limit, "No swap limit support");
    unless(features.controller("cpu"), "No cpu cfs quota support");
    unless(features.controller("cpuset"), "No cpuset support");
    unless(features.controller("pids"), "No pids limit support");
    unless(features.seccomp, "No seccomp support");
    warnings
}
