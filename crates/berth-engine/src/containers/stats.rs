//! What a container uses: samples of its control groups.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_sys::cgroup::{Cgroup, Hierarchy, Stats};
use berth_types::{ContainerId, Timestamp};
use indexmap::IndexMap;
use tokio::sync::mpsc;

use super::index::ContainerHandle;
use super::spec::NetworkMode;
use super::view::ContainerView;
use crate::clock;
use crate::error::EngineError;
use crate::host::Host;
use crate::limits;

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

/// Nanoseconds in a tick of /proc/stat: USER_HZ is 100 on every architecture there is, time(7).
const TICK: u64 = 10_000_000;

/// Begins to sample. With `stream`, once per second until nobody reads or the container is gone; without, one
/// sample, with a second before it to compare with unless `one_shot`.
pub(super) fn start(
    host: Arc<Host>,
    handle: ContainerHandle,
    stream: bool,
    one_shot: bool,
) -> StatsStream {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut previous: Option<StatsSample> = None;
        loop {
            let began = tokio::time::Instant::now();
            let (view, host) = (handle.view(), Arc::clone(&host));
            let sample = tokio::task::spawn_blocking(move || sample(&host, &view)).await;
            let mut sample = match sample {
                Ok(Ok(sample)) => sample,
                Ok(Err(error)) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
                Err(error) => {
                    let error = EngineError::Internal(format!("a defect in the engine: {error}"));
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            };
            let first = previous.is_none();
            if let Some(previous) = &previous {
                sample.previous_cpu = previous.cpu.clone();
                sample.previous_read = previous.read;
            }
            // The first sample of a pair is only for comparison.
            let alone = first && !stream && !one_shot && sample.running;
            if !alone && (sender.send(Ok(sample.clone())).await.is_err() || !stream) {
                return;
            }
            previous = Some(sample);
            let gone = handle.asks.closed();
            tokio::select! {
                () = gone => return,
                () = sender.closed() => return,
                () = tokio::time::sleep_until(began + limits::STATS_INTERVAL) => {}
            }
        }
    });
    StatsStream { receiver }
}

/// What a container uses now.
fn sample(host: &Host, view: &ContainerView) -> Result<StatsSample, EngineError> {
    let mut sample = StatsSample {
        id: view.id.clone(),
        name: view.name.clone(),
        running: view.is_running(),
        read: Timestamp::ZERO,
        previous_read: Timestamp::ZERO,
        cgroup_v2: host.features.cgroup_v2,
        cpu: CpuSample::default(),
        previous_cpu: CpuSample::default(),
        memory: MemorySample::default(),
        pids: 0,
        pids_limit: None,
        block_bytes: Vec::new(),
        block_operations: Vec::new(),
        networks: None,
    };
    if !sample.running {
        return Ok(sample);
    }
    let path = host.cgroup(&view.resources.cgroup_parent, &view.id);
    let stats = match usage(&path) {
        Ok(stats) => stats,
        // It ended while we looked.
        Err(_) if !berth_sys::fs::exists(&PathBuf::from(format!("/proc/{}", view.pid()))) => {
            sample.running = false;
            return Ok(sample);
        }
        Err(error) => {
            let kind = error.kind();
            return Err(EngineError::failed(
                format!("read what container {} uses", view.id),
                kind,
                error,
            ));
        }
    };
    fill(&mut sample, stats, host);
    sample.read = clock::now();
    if view.spec.host.network_mode != NetworkMode::Host {
        let text = read(&format!("/proc/{}/net/dev", view.pid()));
        sample.networks = Some(interfaces(&text)).filter(|n| !n.is_empty());
    }
    Ok(sample)
}

fn usage(path: &Path) -> Result<Stats, berth_sys::cgroup::CgroupError> {
    let location = Hierarchy::probe()?.locate(path)?;
    Cgroup::open(&location)?.stats()
}

fn read(path: &str) -> String {
    berth_sys::fs::read_bounded(Path::new(path), 1024 * 1024)
        .map(|b| String::from_utf8_lossy(&b).into_owned())
        .unwrap_or_default()
}

fn fill(sample: &mut StatsSample, stats: Stats, host: &Host) {
    sample.cpu = CpuSample {
        total: stats.cpu.total,
        per_cpu: stats.cpu.per_cpu,
        kernel: stats.cpu.kernel,
        user: stats.cpu.user,
        system: system_time(&read("/proc/stat")),
        online: host.features.processors,
        periods: stats.cpu.periods,
        throttled_periods: stats.cpu.throttled_periods,
        throttled_time: stats.cpu.throttled_time,
    };
    if let Some(memory) = stats.memory {
        sample.memory = MemorySample {
            usage: memory.usage,
            max_usage: memory.max_usage.unwrap_or(0),
            failures: memory.failures,
            limit: memory
                .limit
                .unwrap_or(host.features.memory)
                .min(host.features.memory),
            counters: memory.details.into_iter().collect(),
        };
    }
    if let Some(pids) = stats.pids {
        sample.pids = pids.current;
        sample.pids_limit = pids.limit;
    }
    let counters = |list: Vec<berth_sys::cgroup::BlockIoEntry>| {
        list.into_iter()
            .map(|e| BlockCounter {
                major: e.major,
                minor: e.minor,
                operation: e.operation,
                value: e.value,
            })
            .collect()
    };
    sample.block_bytes = counters(stats.block_io.service_bytes);
    sample.block_operations = counters(stats.block_io.serviced);
}

/// Nanoseconds that all processors spent: the first line of proc_stat(5), without guests, who are counted
/// among the others.
fn system_time(stat: &str) -> u64 {
    stat.lines()
        .find_map(|l| l.strip_prefix("cpu "))
        .map(|fields| {
            fields
                .split_whitespace()
                .take(8)
                .filter_map(|n| n.parse::<u64>().ok())
                .sum::<u64>()
        })
        .unwrap_or(0)
        .saturating_mul(TICK)
}

/// Interfaces but the loopback one: proc_pid_net(5).
fn interfaces(dev: &str) -> IndexMap<String, NetworkSample> {
    dev.lines()
        .skip(2)
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let name = name.trim();
            let n: Vec<u64> = rest
                .split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect();
            if name == "lo" || n.len() < 12 {
                return None;
            }
            Some((
                name.to_owned(),
                NetworkSample {
                    rx_bytes: n[0],
                    rx_packets: n[1],
                    rx_errors: n[2],
                    rx_dropped: n[3],
                    tx_bytes: n[8],
                    tx_packets: n[9],
                    tx_errors: n[10],
                    tx_dropped: n[11],
                },
            ))
        })
        .collect()
}
