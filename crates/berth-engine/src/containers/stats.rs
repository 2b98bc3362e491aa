//! What a container uses: samples of its control groups.

use berth_types::{ContainerId, Timestamp};
use indexmap::IndexMap;
use tokio::sync::mpsc;

use crate::error::EngineError;

/// Use of processors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuSample {
    /// Nanoseconds in all.
    pub total: u64,
    /// Nanoseconds per processor; empty on cgroup v2.
    pub per_cpu: Vec<u64>,
    /// Nanoseconds in the kernel.
    pub kernel: u64,
    /// Nanoseconds in user mode.
    pub user: u64,
    /// Nanoseconds that all processors of the host spent.
    pub system: u64,
    /// Processors that are on-line.
    pub online: u32,
    /// Quota periods that passed.
    pub periods: u64,
    /// Of these, how many were throttled.
    pub throttled_periods: u64,
    /// Nanoseconds throttled.
    pub throttled_time: u64,
}

/// Use of memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemorySample {
    /// Now.
    pub usage: u64,
    /// At most so far; zero where the kernel does not tell (cgroup v2).
    pub max_usage: u64,
    /// How often the limit was hit (cgroup v1).
    pub failures: u64,
    /// The limit; the host's memory where there is none.
    pub limit: u64,
    /// The kernel's own counters, by their names in memory.stat.
    pub counters: IndexMap<String, u64>,
}

/// One counter of block I/O.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockCounter {
    /// Device, major number.
    pub major: u64,
    /// Device, minor number.
    pub minor: u64,
    /// `read`, `write`, …
    pub operation: String,
    /// Bytes or operations.
    pub value: u64,
}

/// Traffic of one interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NetworkSample {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsSample {
    /// Container.
    pub id: ContainerId,
    /// Its name, without a slash.
    pub name: String,
    /// Whether it runs; all else is zero when it does not.
    pub running: bool,
    /// When this was read; Go's zero time when it does not run.
    pub read: Timestamp,
    /// When the one before was; Go's zero time when there was none.
    pub previous_read: Timestamp,
    /// Whether the host has cgroup v2 alone (Docker's answer has other fields then).
    pub cgroup_v2: bool,
    /// Processors.
    pub cpu: CpuSample,
    /// Processors at the sample before.
    pub previous_cpu: CpuSample,
    /// Memory.
    pub memory: MemorySample,
    /// Tasks now.
    pub pids: u64,
    /// Greatest number of tasks; `None` for no bound.
    pub pids_limit: Option<u64>,
    /// Bytes moved per device and operation.
    pub block_bytes: Vec<BlockCounter>,
    /// Operations per device and operation.
    pub block_operations: Vec<BlockCounter>,
    /// Interfaces by name; `None` when it has no network of its own.
    pub networks: Option<IndexMap<String, NetworkSample>>,
}

/// Samples, one per second. Dropping it ends the reading.
#[derive(Debug)]
pub struct StatsStream {
    pub(crate) receiver: mpsc::Receiver<Result<StatsSample, EngineError>>,
}

impl StatsStream {
    /// The next sample; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<StatsSample, EngineError>> {
        self.receiver.recv().await
    }
}
