//! What this host can do: probed once, passed as data.

use std::path::Path;

use berth_sys::cgroup::{Hierarchy, Layout};

/// Facts of the host that decide what a container can have.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct HostFeatures {
    /// Kernel release, as uname(2) tells it.
    pub kernel_release: String,
    /// Its first two numbers.
    pub kernel: (u32, u32),
    /// Whether control groups are version 2 alone.
    pub cgroup_v2: bool,
    /// Controllers that can be used; `io` stands for `blkio` too.
    pub controllers: Vec<String>,
    /// Whether swap can be limited.
    pub swap_limit: bool,
    /// Whether swappiness can be set per group.
    pub swappiness: bool,
    /// Whether the out-of-memory killer can be switched off per group.
    pub oom_kill_disable: bool,
    /// Whether block I/O can be weighted.
    pub blkio_weight: bool,
    /// Whether block I/O can be throttled.
    pub blkio_throttle: bool,
    /// Whether there are cgroup namespaces.
    pub cgroup_namespaces: bool,
    /// Whether there are system call filters.
    pub seccomp: bool,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether SELinux is on.
    pub selinux: bool,
    /// Whether mounts can be made read-only with what is mounted in them.
    pub recursive_read_only: bool,
    /// Number of the last capability the kernel knows.
    pub last_capability: usize,
    /// Capabilities this process may give, one bit each.
    pub capabilities: u64,
    /// This process's own OOM preference.
    pub oom_score_adj: i64,
    /// Whether containers get no_new_privs by default.
    pub no_new_privileges: bool,
    /// Whether net.ipv4.ping_group_range exists.
    pub sysctl_ping_group_range: bool,
    /// Whether net.ipv4.ip_unprivileged_port_start exists.
    pub sysctl_unprivileged_port_start: bool,
    /// Directories that tell of processors' temperatures, hidden from containers.
    pub thermal_paths: Vec<String>,
    /// Processors on-line.
    pub processors: u32,
    /// Processors that may be in a cpuset, as the kernel lists them.
    pub cpus: String,
    /// Memory nodes that may be in a cpuset.
    pub mems: String,
    /// Bytes of memory.
    pub memory: u64,
    /// Whether packets are forwarded.
    pub ipv4_forwarding: bool,
}

/// Number of CAP_SYS_RESOURCE: capabilities(7).
const SYS_RESOURCE: usize = 24;

impl Default for HostFeatures {
    /// A current host with everything; for pure tests.
    fn default() -> Self {
        Self {
            kernel_release: "6.12.0".to_owned(),
            kernel: (6, 12),
            cgroup_v2: false,
            controllers: [
                "cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "devices", "freezer",
            ]
            .map(str::to_owned)
            .to_vec(),
            swap_limit: true,
            swappiness: true,
            oom_kill_disable: true,
            blkio_weight: true,
            blkio_throttle: true,
            cgroup_namespaces: true,
            seccomp: true,
            apparmor: false,
            selinux: false,
            recursive_read_only: true,
            last_capability: 40,
            capabilities: u64::MAX,
            oom_score_adj: 0,
            no_new_privileges: false,
            sysctl_ping_group_range: true,
            sysctl_unprivileged_port_start: true,
            thermal_paths: Vec::new(),
            processors: 2,
            cpus: "0-1".to_owned(),
            mems: "0".to_owned(),
            memory: 4 << 30,
            ipv4_forwarding: true,
        }
    }
}

fn text(path: &str) -> String {
    berth_sys::fs::read_bounded(Path::new(path), 64 * 1024)
        .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
        .unwrap_or_default()
}

fn exists(path: &str) -> bool {
    berth_sys::fs::exists(Path::new(path))
}

impl HostFeatures {
    /// Looks at this host.
    #[must_use]
    pub fn probe() -> Self {
        let uname = rustix::system::uname();
        let kernel_release = uname.release().to_string_lossy().into_owned();
        let kernel = kernel_numbers(&kernel_release);
        let hierarchy = Hierarchy::probe().ok();
        let cgroup_v2 = hierarchy.as_ref().is_some_and(|h| h.layout() == Layout::V2);
        let controllers = hierarchy
            .as_ref()
            .map(Hierarchy::controllers)
            .unwrap_or_default();
        let v1 = |controller: &str| {
            hierarchy.as_ref().and_then(|h| {
                h.v1_mount_points()
                    .find(|(names, _)| names.split(',').any(|n| n == controller))
                    .map(|(_, path)| path.to_path_buf())
            })
        };
        let v1_has = |controller: &str, file: &str| {
            v1(controller).is_some_and(|path| berth_sys::fs::exists(&path.join(file)))
        };
        let status = text("/proc/self/status");
        let capabilities = berth_sys::proc::parse_status_field(&status, "CapPrm")
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or(0);
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let (cpus, mems) = allowed_sets(&status);
        Self {
            kernel,
            cgroup_v2,
            swap_limit: cgroup_v2 || v1_has("memory", "memory.memsw.limit_in_bytes"),
            swappiness: !cgroup_v2 && v1_has("memory", "memory.swappiness"),
            oom_kill_disable: !cgroup_v2 && v1_has("memory", "memory.oom_control"),
            blkio_weight: if cgroup_v2 {
                controllers.iter().any(|c| c == "io")
            } else {
                v1_has("blkio", "blkio.weight") || v1_has("blkio", "blkio.bfq.weight")
            },
            blkio_throttle: if cgroup_v2 {
                controllers.iter().any(|c| c == "io")
            } else {
                v1_has("blkio", "blkio.throttle.read_bps_device")
            },
            cgroup_namespaces: exists("/proc/self/ns/cgroup"),
            seccomp: exists("/proc/sys/kernel/seccomp/actions_avail"),
            apparmor: text("/sys/module/apparmor/parameters/enabled") == "Y"
                && exists("/sys/kernel/security/apparmor/profiles"),
            selinux: exists("/sys/fs/selinux/enforce"),
            recursive_read_only: kernel >= (5, 12),
            last_capability: text("/proc/sys/kernel/cap_last_cap").parse().unwrap_or(40),
            capabilities,
            oom_score_adj: text("/proc/self/oom_score_adj").parse().unwrap_or(0),
            no_new_privileges: false,
            sysctl_ping_group_range: exists("/proc/sys/net/ipv4/ping_group_range"),
            sysctl_unprivileged_port_start: exists("/proc/sys/net/ipv4/ip_unprivileged_port_start"),
            thermal_paths: (0..processors)
                .map(|n| format!("/sys/devices/system/cpu/cpu{n}/thermal_throttle"))
                .filter(|path| exists(path))
                .collect(),
            processors,
            cpus,
            mems,
            memory: memory_total(&text("/proc/meminfo")),
            ipv4_forwarding: text("/proc/sys/net/ipv4/ip_forward") == "1",
            controllers,
            kernel_release,
        }
    }

    /// Whether a controller can be used.
    #[must_use]
    pub fn controller(&self, name: &str) -> bool {
        self.controllers.iter().any(|c| c == name)
            || (name == "blkio" && self.controllers.iter().any(|c| c == "io"))
    }

    /// Whether this process may give a capability, by its number.
    #[must_use]
    pub fn has_capability(&self, number: usize) -> bool {
        number < 64 && self.capabilities & (1 << number) != 0
    }

    /// Whether hard limits can be raised and OOM preferences lowered.
    #[must_use]
    pub fn may_raise_limits(&self) -> bool {
        self.has_capability(SYS_RESOURCE)
    }

    /// The OOM preference that can be had instead of the one wanted.
    #[must_use]
    pub fn clamp_oom_score(&self, wanted: i64) -> i32 {
        let score = if self.may_raise_limits() {
            wanted
        } else {
            wanted.max(self.oom_score_adj)
        };
        i32::try_from(score.clamp(-1000, 1000)).unwrap_or(0)
    }
}

fn kernel_numbers(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Processors and memory nodes this process may use: proc_pid_status(5).
fn allowed_sets(status: &str) -> (String, String) {
    let field = |name: &str| {
        berth_sys::proc::parse_status_field(status, name)
            .map(|v| v.trim().to_owned())
            .unwrap_or_default()
    };
    (field("Cpus_allowed_list"), field("Mems_allowed_list"))
}

fn memory_total(meminfo: &str) -> u64 {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}
