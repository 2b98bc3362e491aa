//! What a control group may be told to limit, as plain values.
//!
//! Owns the vocabulary only; `v1.rs` and `v2.rs` turn it into writes. Field meanings and units follow the
//! OCI runtime specification, `config-linux.md`, "Control groups". `None` and empty lists mean "leave as it is".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that can be limited. The default value asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory limits.
    pub memory: Memory,
    /// Processor time and placement.
    pub cpu: Cpu,
    /// Greatest number of tasks; a negative value means no limit.
    pub pids_limit: Option<i64>,
    /// Block device weights and rates.
    pub block_io: BlockIo,
    /// Limits of huge pages, one per page size.
    pub huge_pages: Vec<HugePageLimit>,
    /// Limits of RDMA devices.
    pub rdma: Vec<RdmaLimit>,
    /// Classes of network packets (version 1 only).
    pub network: NetworkClass,
    /// Complete list of device rules in the order they apply; `None` leaves device access as it is.
    pub devices: Option<Vec<DeviceRule>>,
    /// Files of the version 2 hierarchy and what to write to them, after everything else.
    pub unified: BTreeMap<String, String>,
}

/// Memory limits, in bytes; −1 means no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Hard limit of memory.
    pub limit: Option<i64>,
    /// Limit of memory and swap together.
    pub swap: Option<i64>,
    /// Soft limit (version 1) or best-effort protection (version 2).
    pub reservation: Option<i64>,
    /// Limit of kernel memory: obsolete since Linux 5.4, told as ignored.
    pub kernel: Option<i64>,
    /// Limit of kernel TCP memory: obsolete, told as ignored.
    pub kernel_tcp: Option<i64>,
    /// Swappiness, 0 to 100 (version 1 only).
    pub swappiness: Option<u64>,
    /// Whether the OOM killer stays away from this group (version 1 only).
    pub disable_oom_killer: Option<bool>,
    /// Refuse a limit below the present usage instead of reclaiming or killing.
    pub check_before_update: bool,
}

/// Processor limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Relative share, 2 to 262144 (1024 is the default); converted to a weight on version 2.
    pub shares: Option<u64>,
    /// Microseconds of processor time per period; −1 means no limit.
    pub quota: Option<i64>,
    /// Length of a period in microseconds.
    pub period: Option<u64>,
    /// Microseconds that may be saved up from earlier periods.
    pub burst: Option<u64>,
    /// Real-time microseconds per real-time period (version 1 only).
    pub realtime_runtime: Option<i64>,
    /// Length of a real-time period in microseconds (version 1 only).
    pub realtime_period: Option<u64>,
    /// Processors the tasks may run on, as in `0-2,7`.
    pub cpus: Option<String>,
    /// Memory nodes the tasks may use, as in `0-2,7`.
    pub mems: Option<String>,
    /// 1 makes every task of the group SCHED_IDLE, 0 undoes it.
    pub idle: Option<i64>,
}

/// Block device limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIo {
    /// Relative weight, 10 to 1000.
    pub weight: Option<u16>,
    /// Weight of the group's own tasks against its children (version 1 only).
    pub leaf_weight: Option<u16>,
    /// Weights on single devices.
    pub weight_devices: Vec<DeviceWeight>,
    /// Bytes per second read.
    pub read_bytes: Vec<DeviceRate>,
    /// Bytes per second written.
    pub write_bytes: Vec<DeviceRate>,
    /// Read operations per second.
    pub read_operations: Vec<DeviceRate>,
    /// Write operations per second.
    pub write_operations: Vec<DeviceRate>,
}

/// The weight of a group on one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceWeight {
    /// Major number of the device.
    pub major: i64,
    /// Minor number of the device.
    pub minor: i64,
    /// Relative weight, 10 to 1000.
    pub weight: Option<u16>,
    /// Weight against the group's children (version 1 only).
    pub leaf_weight: Option<u16>,
}

/// A rate on one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// Major number of the device.
    pub major: i64,
    /// Minor number of the device.
    pub minor: i64,
    /// Bytes or operations per second; 0 means no limit.
    pub rate: u64,
}

/// A limit of huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePageLimit {
    /// Page size as the kernel names it, such as `2MB`.
    pub page_size: String,
    /// Limit in bytes; −1 means no limit.
    pub limit: i64,
}

/// Limits of one RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaLimit {
    /// Name of the device, such as `mlx5_1`.
    pub device: String,
    /// Greatest number of handles.
    pub hca_handles: Option<u32>,
    /// Greatest number of objects.
    pub hca_objects: Option<u32>,
}

/// Classes of the packets a group sends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkClass {
    /// Class identifier of `net_cls`.
    pub class_id: Option<u32>,
    /// Priority per interface, of `net_prio`.
    pub priorities: Vec<(String, u32)>,
}

/// Which devices a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Character and block devices alike, whatever their numbers.
    All,
    /// Character devices.
    Character,
    /// Block devices.
    Block,
}

/// One rule of device access. Rules apply in order; the last one that matches an access decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allow (true) or deny.
    pub allow: bool,
    /// Kind of device.
    pub kind: DeviceKind,
    /// Major number, or every one.
    pub major: Option<u32>,
    /// Minor number, or every one.
    pub minor: Option<u32>,
    /// What the rule speaks of.
    pub access: DeviceAccess,
}

/// Ways to use a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeviceAccess {
    /// Open for reading.
    pub read: bool,
    /// Open for writing.
    pub write: bool,
    /// Create a node for it.
    pub make_node: bool,
}

impl DeviceAccess {
    /// Reading, writing and creating a node.
    pub const ALL: Self = Self {
        read: true,
        write: true,
        make_node: true,
    };

    /// Parses a string of the letters `r`, `w` and `m`; `None` for an empty string or another letter.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut access = Self::default();
        for letter in text.chars() {
            match letter {
                'r' => access.read = true,
                'w' => access.write = true,
                'm' => access.make_node = true,
                _ => return None,
            }
        }
        (access != Self::default()).then_some(access)
    }

    /// True when every way of `other` is among these.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        (self.read || !other.read)
            && (self.write || !other.write)
            && (self.make_node || !other.make_node)
    }
}

impl std::fmt::Display for DeviceAccess {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (set, letter) in [(self.read, "r"), (self.write, "w"), (self.make_node, "m")] {
            if set {
                formatter.write_str(letter)?;
            }
        }
        Ok(())
    }
}

impl DeviceRule {
    /// Denies everything: the first rule of every container.
    pub const DENY_ALL: Self = Self {
        allow: false,
        kind: DeviceKind::All,
        major: None,
        minor: None,
        access: DeviceAccess::ALL,
    };

    /// Allows everything: what a privileged container has.
    pub const ALLOW_ALL: Self = Self {
        allow: true,
        kind: DeviceKind::All,
        major: None,
        minor: None,
        access: DeviceAccess::ALL,
    };
}
