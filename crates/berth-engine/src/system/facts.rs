//! Facts told about the engine and its host.

use berth_types::Timestamp;
use indexmap::IndexMap;

/// What protects containers on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityFacts {
    /// Whether the kernel has system call filters.
    pub seccomp: bool,
    /// Profile used when none is asked: `builtin`, `unconfined` or a path.
    pub seccomp_profile: String,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether cgroup namespaces are used by default.
    pub cgroup_namespaces: bool,
    /// Whether containers get no_new_privs by default.
    pub no_new_privileges: bool,
}

/// What `info` tells.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct SystemInfo {
    /// Stable id of this data root.
    pub id: String,
    pub containers: usize,
    pub running: usize,
    pub paused: usize,
    pub stopped: usize,
    pub images: usize,
    /// Storage driver.
    pub storage_driver: String,
    /// Its facts, as name and value.
    pub storage_status: Vec<(String, String)>,
    pub log_drivers: Vec<String>,
    pub default_log_driver: String,
    pub network_drivers: Vec<String>,
    pub volume_drivers: Vec<String>,
    /// `cgroupfs`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    pub memory_limit: bool,
    pub swap_limit: bool,
    pub cpu_cfs: bool,
    pub cpu_shares: bool,
    pub cpu_set: bool,
    pub pids_limit: bool,
    pub oom_kill_disable: bool,
    pub ipv4_forwarding: bool,
    pub kernel_version: String,
    pub operating_system: String,
    pub os_version: String,
    pub architecture: String,
    pub processors: u32,
    /// Bytes.
    pub memory: u64,
    pub hostname: String,
    pub data_root: String,
    pub debug: bool,
    pub open_files: usize,
    pub listeners: usize,
    pub now: Timestamp,
    pub runtimes: IndexMap<String, String>,
    pub default_runtime: String,
    pub security: SecurityFacts,
    pub labels: Vec<String>,
    pub registry_mirrors: Vec<String>,
    pub insecure_registries: Vec<String>,
    /// Proxies to registries: for http, for https, and what is reached without.
    pub proxies: [String; 3],
    pub init_binary: String,
    pub server_version: String,
    /// What this host cannot do, one sentence each.
    pub warnings: Vec<String>,
}

/// What `version` tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionFacts {
    /// Berth's version.
    pub version: String,
    /// Kernel release.
    pub kernel_version: String,
    /// In Go's spelling.
    pub os: String,
    /// In Go's spelling.
    pub architecture: String,
}
