//! Limits of a container.
//!
//! Absent (`None`) means "not asked". Zero where Docker's API uses zero for "not asked" is turned into
//! `None` by whoever converts.

use serde::{Deserialize, Serialize};

use super::{DeviceCgroupRule, DeviceMapping, DeviceRequest};

/// A rate of one block device, in bytes or operations per second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// Device node on the host.
    pub path: String,
    /// Per second.
    pub rate: u64,
}

/// A weight of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceWeight {
    /// Device node on the host.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// One limit of setrlimit(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Name without `RLIMIT_`, lower case.
    pub name: String,
    /// Soft limit; -1 for none.
    pub soft: i64,
    /// Hard limit; -1 for none.
    pub hard: i64,
}

/// Everything that control groups and resource limits bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Relative CPU weight, as in cgroup v1's `cpu.shares`.
    pub cpu_shares: Option<i64>,
    /// CPUs in billionths.
    pub nano_cpus: Option<i64>,
    /// CFS period in microseconds.
    pub cpu_period: Option<i64>,
    /// CFS quota in microseconds; -1 for none.
    pub cpu_quota: Option<i64>,
    /// Real-time period in microseconds.
    pub cpu_realtime_period: Option<i64>,
    /// Real-time run time in microseconds.
    pub cpu_realtime_runtime: Option<i64>,
    /// CPUs to run on, as `0-2,7`; empty when not asked.
    pub cpuset_cpus: String,
    /// Memory nodes; empty when not asked.
    pub cpuset_mems: String,
    /// Memory in bytes.
    pub memory: Option<i64>,
    /// Memory and swap together in bytes; -1 for unlimited swap.
    pub memory_swap: Option<i64>,
    /// Soft limit in bytes.
    pub memory_reservation: Option<i64>,
    /// 0 to 100; -1 as not asked.
    pub memory_swappiness: Option<i64>,
    /// Whether the kernel must not kill at the limit.
    pub oom_kill_disable: Option<bool>,
    /// Number of tasks; zero or negative for no limit.
    pub pids_limit: Option<i64>,
    /// Weight of block I/O, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// Weights of single devices.
    pub blkio_weight_device: Vec<DeviceWeight>,
    /// Bytes read per second.
    pub blkio_read_bps: Vec<DeviceRate>,
    /// Bytes written per second.
    pub blkio_write_bps: Vec<DeviceRate>,
    /// Reads per second.
    pub blkio_read_iops: Vec<DeviceRate>,
    /// Writes per second.
    pub blkio_write_iops: Vec<DeviceRate>,
    /// setrlimit(2) limits.
    pub ulimits: Vec<Ulimit>,
    /// Parent control group, empty for the daemon's.
    pub cgroup_parent: String,
    /// Devices of the host.
    pub devices: Vec<DeviceMapping>,
    /// Further rules of the device cgroup.
    pub device_cgroup_rules: Vec<DeviceCgroupRule>,
    /// Requests to device drivers.
    pub device_requests: Vec<DeviceRequest>,
}
