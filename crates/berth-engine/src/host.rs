//! What every service needs to know of this engine: its settings, its directories, its host.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use berth_types::ContainerId;

use crate::config::Config;
use crate::containers::spec::LogSettings;
use crate::containers::view::ContainerPaths;
use crate::system::HostFeatures;

/// The data root of the engine of a host that has one.
const DEFAULT_DATA_ROOT: &str = "/var/lib/berth";

/// Settings, directories and facts. Shared; settings can be replaced as a whole.
#[derive(Debug)]
pub struct Host {
    config: RwLock<Arc<Config>>,
    /// What this host can do.
    pub features: HostFeatures,
    /// Id of the data root, the same over restarts.
    pub id: String,
    /// Control group above all containers' when none is set.
    own_cgroup: String,
    data_root: PathBuf,
    exec_root: PathBuf,
}

impl Host {
    /// From settings whose roots exist.
    #[must_use]
    pub fn new(config: Arc<Config>, features: HostFeatures, id: String) -> Self {
        let own_cgroup = format!("/berth/{}", short_hash(&config.exec_root));
        Self {
            data_root: config.data_root.clone(),
            exec_root: config.exec_root.clone(),
            config: RwLock::new(config),
            features,
            id,
            own_cgroup,
        }
    }

    /// The present settings.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the settings. The roots stay those of the start.
    pub fn reload(&self, config: Arc<Config>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// What this engine calls its things in the host's network: `berth`, or with another data root a name of its own.
    #[must_use]
    pub fn network_name(&self) -> String {
        if self.data_root == Path::new(DEFAULT_DATA_ROOT) {
            "berth".to_owned()
        } else {
            format!("berth-{}", short_hash(&self.data_root))
        }
    }

    /// The data root.
    #[must_use]
    pub fn data_root(&self) -> &Path {
        &self.data_root
    }

    /// The exec root.
    #[must_use]
    pub fn exec_root(&self) -> &Path {
        &self.exec_root
    }

    /// Directory of what a container owns for good.
    #[must_use]
    pub fn container_data(&self, id: &ContainerId) -> PathBuf {
        self.data_root.join("containers").join(id.as_str())
    }

    /// Directory of a container's run: OCI bundle, monitor socket, exit record.
    #[must_use]
    pub fn container_run(&self, id: &ContainerId) -> PathBuf {
        self.exec_root.join("containers").join(id.as_str())
    }

    /// Directory where the runtime keeps its state.
    #[must_use]
    pub fn runtime_state(&self) -> PathBuf {
        self.exec_root.join("runtime")
    }

    /// Directory of compiled system call filters.
    #[must_use]
    pub fn seccomp_cache(&self) -> PathBuf {
        self.exec_root.join("seccomp")
    }

    /// A container's control group, from the root of every hierarchy.
    #[must_use]
    pub fn cgroup(&self, asked_parent: &str, id: &ContainerId) -> PathBuf {
        let config = self.config();
        let parent = [asked_parent, &config.cgroup_parent]
            .into_iter()
            .find(|p| !p.is_empty())
            .unwrap_or(&self.own_cgroup);
        Path::new("/")
            .join(parent.trim_start_matches('/'))
            .join(id.as_str())
    }

    /// Files of a container.
    #[must_use]
    pub fn container_paths(
        &self,
        id: &ContainerId,
        log: &LogSettings,
        private_etc: bool,
    ) -> ContainerPaths {
        let data = self.container_data(id);
        let etc = |name: &str| {
            if private_etc {
                data.join(name)
            } else {
                PathBuf::new()
            }
        };
        ContainerPaths {
            log: match log.driver.as_str() {
                "none" => PathBuf::new(),
                "local" => data.join("local-logs").join("container.log"),
                _ => data.join(format!("{id}-json.log")),
            },
            resolv_conf: etc("resolv.conf"),
            hostname: etc("hostname"),
            hosts: etc("hosts"),
            data,
        }
    }
}

/// A short name for a path, the same every time: FNV-1a, 32 bits twice.
fn short_hash(path: &Path) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in path.as_os_str().as_encoded_bytes() {
        hash ^= u64::from(*byte);
        hash = hash.wrapping_mul(0x0100_0000_01b3);
    }
    format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
}
