//! The engine's settings: a value that the caller resolves from files, environment and flags.

use std::path::PathBuf;

use indexmap::IndexMap;

use crate::containers::spec::{LogSettings, Ulimit};
use crate::networks::NetworkSettings;
use crate::system::DiskBudget;

/// How a container's runtime is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runtime {
    /// Berth's own, called as a library by the monitor.
    Builtin,
    /// Another OCI runtime.
    Program {
        /// Path, or a name looked up by the monitor.
        path: PathBuf,
        /// Arguments before the command.
        args: Vec<String>,
    },
}

/// A registry's mirrors, by registry host.
pub type Mirrors = IndexMap<String, Vec<String>>;

/// Everything the engine can be told. Replaced as a whole on reload.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where everything that outlives a reboot is.
    pub data_root: PathBuf,
    /// Where everything else is.
    pub exec_root: PathBuf,
    /// The program monitors are made from; a sealed view of it is used. Normally `/proc/self/exe`.
    pub executable: PathBuf,
    /// Name of the runtime used when none is asked.
    pub default_runtime: String,
    /// Runtimes by name. `berth` and `runc` are always the built-in one unless named here.
    pub runtimes: IndexMap<String, Runtime>,
    /// Log driver and options used when none are asked.
    pub log: LogSettings,
    /// Mirrors tried before Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// Mirrors of single registries.
    pub registry_mirrors_by_host: Mirrors,
    /// Registries spoken to without TLS, or without checking it: hosts or networks.
    pub insecure_registries: Vec<String>,
    /// PEM files with certificate authorities that registries are verified by, beside those of the host.
    pub registry_authorities: Vec<PathBuf>,
    /// Directories with certificates of single registries (`certs.d`).
    pub registry_certificates: Vec<PathBuf>,
    /// Whether containers get an init process when they do not say.
    pub init: bool,
    /// Bytes of /dev/shm when a container does not say; `None` for 64 MiB.
    pub shm_size: Option<i64>,
    /// Resource limits of containers that do not say.
    pub ulimits: Vec<Ulimit>,
    /// Parent control group; empty for `/berth/<hash of the exec root>`.
    pub cgroup_parent: String,
    /// Seccomp profile used when none is asked: a path, `builtin` or `unconfined`; empty for `builtin`.
    pub seccomp_profile: String,
    /// Whether containers get no_new_privs when they do not say.
    pub no_new_privileges: bool,
    /// OOM preference of containers that do not say.
    pub oom_score_adjust: i64,
    /// Name servers for containers that do not say.
    pub dns: Vec<String>,
    /// Resolver options for containers that do not say.
    pub dns_options: Vec<String>,
    /// Search domains for containers that do not say.
    pub dns_search: Vec<String>,
    /// Networks.
    pub network: NetworkSettings,
    /// What images, build cache and logs may occupy; nothing is removed by itself without it.
    pub disk_budget: Option<DiskBudget>,
    /// Labels of the daemon, shown by info.
    pub labels: Vec<String>,
    /// Whether the daemon says more; shown by info.
    pub debug: bool,
    /// Layers fetched at once per pull.
    pub concurrent_downloads: usize,
    /// Layers sent at once per push.
    pub concurrent_uploads: usize,
    /// Attempts for each request or download before a pull fails.
    pub download_attempts: u32,
    /// Proxy for requests to registries over http.
    pub http_proxy: Option<String>,
    /// Proxy for requests to registries over https.
    pub https_proxy: Option<String>,
    /// Hosts, domains and ranges reached without a proxy, separated by commas.
    pub no_proxy: Option<String>,
}

impl Config {
    /// The defaults, with these roots.
    #[must_use]
    pub fn with_roots(data_root: impl Into<PathBuf>, exec_root: impl Into<PathBuf>) -> Self {
        Self {
            data_root: data_root.into(),
            exec_root: exec_root.into(),
            executable: PathBuf::from("/proc/self/exe"),
            default_runtime: "berth".to_owned(),
            runtimes: IndexMap::new(),
            log: LogSettings {
                driver: "json-file".to_owned(),
                options: IndexMap::new(),
            },
            registry_mirrors: Vec::new(),
            registry_mirrors_by_host: IndexMap::new(),
            insecure_registries: Vec::new(),
            registry_authorities: Vec::new(),
            registry_certificates: Vec::new(),
            init: false,
            shm_size: None,
            ulimits: Vec::new(),
            cgroup_parent: String::new(),
            seccomp_profile: String::new(),
            no_new_privileges: false,
            oom_score_adjust: 0,
            dns: Vec::new(),
            dns_options: Vec::new(),
            dns_search: Vec::new(),
            network: NetworkSettings::default(),
            disk_budget: None,
            labels: Vec::new(),
            debug: false,
            concurrent_downloads: 3,
            concurrent_uploads: 5,
            download_attempts: 5,
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
        }
    }

    /// The runtime of this name, if there is one.
    #[must_use]
    pub fn runtime(&self, name: &str) -> Option<Runtime> {
        let name = if name.is_empty() {
            self.default_runtime.as_str()
        } else {
            name
        };
        if let Some(runtime) = self.runtimes.get(name) {
            return Some(runtime.clone());
        }
        match name {
            "berth" | "runc" | "io.containerd.runc.v2" => Some(Runtime::Builtin),
            _ => None,
        }
    }
}
