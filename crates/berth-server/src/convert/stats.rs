//! Use of resources: engine to wire.

use super::sorted;
use berth_api::{
    BlkioStatEntry, BlkioStats, ContainerStats, CpuStats, CpuUsage, MemoryStats, NetworkStats,
    PidsStats, StorageStats, ThrottlingData,
};
use berth_engine::containers::stats::{BlockCounter, CpuSample, StatsSample};

/// One sample.
pub(crate) fn sample(sample: StatsSample) -> ContainerStats {
    let blocks = |counters: &[BlockCounter]| {
        counters
            .iter()
            .map(|counter| BlkioStatEntry {
                major: counter.major,
                minor: counter.minor,
                op: counter.operation.clone(),
                value: counter.value,
            })
            .collect::<Vec<_>>()
    };
    // Version 2 of control groups counts bytes only; Docker says so with null.
    let empty_on_v1 = || (!sample.cgroup_v2 && sample.running).then(Vec::new);
    let counted = |list: Vec<BlkioStatEntry>| sample.running.then_some(list);
    let pids_limit = match sample.pids_limit {
        Some(limit) => limit,
        None if sample.cgroup_v2 => u64::MAX,
        None => 0,
    };
    ContainerStats {
        name: format!("/{}", sample.name),
        id: sample.id.to_string(),
        read: sample.read.to_string(),
        preread: sample.previous_read.to_string(),
        pids_stats: PidsStats {
            current: sample.pids,
            limit: if sample.running { pids_limit } else { 0 },
        },
        blkio_stats: BlkioStats {
            io_service_bytes_recursive: counted(blocks(&sample.block_bytes)),
            io_serviced_recursive: (!sample.cgroup_v2)
                .then(|| counted(blocks(&sample.block_operations)))
                .flatten(),
            io_queue_recursive: empty_on_v1(),
            io_service_time_recursive: empty_on_v1(),
            io_wait_time_recursive: empty_on_v1(),
            io_merged_recursive: empty_on_v1(),
            io_time_recursive: empty_on_v1(),
            sectors_recursive: empty_on_v1(),
        },
        num_procs: 0,
        storage_stats: StorageStats::default(),
        cpu_stats: cpu(&sample.cpu),
        precpu_stats: cpu(&sample.previous_cpu),
        memory_stats: MemoryStats {
            usage: sample.memory.usage,
            max_usage: sample.memory.max_usage,
            stats: sorted(&sample.memory.counters),
            failcnt: sample.memory.failures,
            limit: sample.memory.limit,
        },
        networks: sample
            .networks
            .iter()
            .flatten()
            .map(|(name, network)| {
                let counters = NetworkStats {
                    rx_bytes: network.rx_bytes,
                    rx_packets: network.rx_packets,
                    rx_errors: network.rx_errors,
                    rx_dropped: network.rx_dropped,
                    tx_bytes: network.tx_bytes,
                    tx_packets: network.tx_packets,
                    tx_errors: network.tx_errors,
                    tx_dropped: network.tx_dropped,
                    ..NetworkStats::default()
                };
                (name.clone(), counters)
            })
            .collect(),
    }
}

fn cpu(sample: &CpuSample) -> CpuStats {
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: sample.total,
            percpu_usage: sample.per_cpu.clone(),
            usage_in_kernelmode: sample.kernel,
            usage_in_usermode: sample.user,
        },
        system_cpu_usage: sample.system,
        online_cpus: sample.online,
        throttling_data: ThrottlingData {
            periods: sample.periods,
            throttled_periods: sample.throttled_periods,
            throttled_time: sample.throttled_time,
        },
    }
}
