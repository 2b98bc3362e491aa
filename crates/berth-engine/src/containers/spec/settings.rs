//! What the host grants a container: the engine's form of `HostConfig`.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{
    CgroupnsMode, IpcMode, MountRequest, NetworkMode, PidMode, Resources, RestartPolicy,
    UsernsMode, UtsMode,
};

/// Driver and options of a container's log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogSettings {
    /// `json-file`, `local` or `none`; empty for the daemon's default.
    pub driver: String,
    /// Options of the driver.
    pub options: IndexMap<String, String>,
}

/// An address of the host that a port is published on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortBinding {
    /// Address; empty for all.
    pub host_ip: String,
    /// Port or range; empty for any.
    pub host_port: String,
}

/// What the host grants, as asked (defaults of the daemon are filled in at create).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostSettings {
    /// `source:target[:options]`, as written.
    pub binds: Vec<String>,
    /// Mounts in the long form.
    pub mounts: Vec<MountRequest>,
    /// Path to options of a tmpfs.
    pub tmpfs: IndexMap<String, String>,
    /// Containers whose volumes are taken over, `container[:ro|rw]`.
    pub volumes_from: Vec<String>,
    /// Driver of volumes named in `binds`.
    pub volume_driver: String,
    /// Where the container's id is to be written; kept for inspect only.
    pub container_id_file: String,
    /// Log.
    pub log: LogSettings,
    /// Network stack.
    pub network_mode: NetworkMode,
    /// `port/protocol` to addresses of the host.
    pub port_bindings: IndexMap<String, Vec<PortBinding>>,
    /// Whether every exposed port is published.
    pub publish_all_ports: bool,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    /// Height and width of the first terminal, in characters.
    pub console_size: Option<(u32, u32)>,
    /// Annotations of the runtime specification.
    pub annotations: IndexMap<String, String>,
    /// Capabilities added, as written.
    pub cap_add: Vec<String>,
    /// Capabilities taken away, as written.
    pub cap_drop: Vec<String>,
    /// Cgroup namespace.
    pub cgroupns: CgroupnsMode,
    /// Name servers.
    pub dns: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// `host:address` lines for /etc/hosts.
    pub extra_hosts: Vec<String>,
    /// Supplementary groups, names or numbers.
    pub group_add: Vec<String>,
    /// IPC namespace.
    pub ipc: IpcMode,
    /// Legacy links, `container:alias`.
    pub links: Vec<String>,
    /// OOM preference, -1000 to 1000.
    pub oom_score_adj: i64,
    /// PID namespace.
    pub pid: PidMode,
    /// All capabilities and devices, nothing masked.
    pub privileged: bool,
    /// Whether the root file system is read-only.
    pub readonly_rootfs: bool,
    /// `seccomp=…`, `no-new-privileges`, `apparmor=…`, `label=…`, `systempaths=unconfined`.
    pub security_opt: Vec<String>,
    /// Options of the storage driver.
    pub storage_opt: IndexMap<String, String>,
    /// UTS namespace.
    pub uts: UtsMode,
    /// User namespace.
    pub userns: UsernsMode,
    /// Bytes of /dev/shm; `None` for the daemon's default.
    pub shm_size: Option<i64>,
    /// Kernel parameters of the container's namespaces.
    pub sysctls: IndexMap<String, String>,
    /// OCI runtime by name; empty for the daemon's default.
    pub runtime: String,
    /// Only `default` (or empty) exists on Linux.
    pub isolation: String,
    /// Masked paths; `None` for the default ones.
    pub masked_paths: Option<Vec<String>>,
    /// Read-only paths; `None` for the default ones.
    pub readonly_paths: Option<Vec<String>>,
    /// Whether an init process reaps zombies; `None` for the daemon's default.
    pub init: Option<bool>,
    /// Limits.
    pub resources: Resources,
}
