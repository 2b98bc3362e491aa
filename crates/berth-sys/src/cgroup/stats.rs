//! What a control group has used, as plain values that fit `GET /containers/{id}/stats`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Usage of one control group at one moment. Parts whose controller is absent keep their default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory; `None` without a memory controller.
    pub memory: Option<MemoryStats>,
    /// Tasks; `None` without a pids controller.
    pub pids: Option<PidsStats>,
    /// Block devices.
    pub block_io: BlockIoStats,
    /// Huge pages in use, by page size such as `2MB`.
    pub huge_pages: BTreeMap<String, HugePageStats>,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStats {
    /// All time used.
    pub total: u64,
    /// Time in user mode.
    pub user: u64,
    /// Time in the kernel.
    pub kernel: u64,
    /// Time per processor (version 1 only, empty otherwise).
    pub per_cpu: Vec<u64>,
    /// Periods that passed with a quota in force.
    pub periods: u64,
    /// Periods in which the group was held back.
    pub throttled_periods: u64,
    /// Time the group was held back.
    pub throttled_time: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStats {
    /// Present usage, page cache included.
    pub usage: u64,
    /// Greatest usage seen, where the kernel tells it.
    pub max_usage: Option<u64>,
    /// Hard limit; `None` when unlimited.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
    /// Present usage of swap alone, where the kernel tells it.
    pub swap_usage: Option<u64>,
    /// Limit of swap alone; `None` when unlimited or untold.
    pub swap_limit: Option<u64>,
    /// The lines of `memory.stat`.
    pub details: BTreeMap<String, u64>,
}

/// Tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsStats {
    /// Present number.
    pub current: u64,
    /// Limit; `None` when unlimited.
    pub limit: Option<u64>,
}

/// Block device traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIoStats {
    /// Bytes moved, per device and operation.
    pub service_bytes: Vec<BlockIoEntry>,
    /// Operations done, per device and operation.
    pub serviced: Vec<BlockIoEntry>,
}

/// One counter of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIoEntry {
    /// Major number of the device.
    pub major: u64,
    /// Minor number of the device.
    pub minor: u64,
    /// Operation, in lower case: `read`, `write`, `sync`, `async`, `discard`, `total`.
    pub operation: String,
    /// Bytes or operations.
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePageStats {
    /// Present usage.
    pub usage: u64,
    /// Greatest usage seen (version 1 only, 0 otherwise).
    pub max_usage: u64,
    /// How often the limit was hit.
    pub failures: u64,
}
