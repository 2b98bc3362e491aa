//! Limits on version 1 controllers.
//!
//! What a host may lack without harm to the container (swap accounting, block weights, …) becomes a note, as
//! Docker warns and goes on; what would leave a container with more rights or less isolation than asked, or
//! has no sensible substitute, is refused.

use std::io;

use super::directory::Directory;
use super::{BlockIo, Cgroup, CgroupError, Cpu, Memory, NetworkClass, Resources, devices};

/// A sentence for a limit that cannot be set here.
pub(super) fn left_out(setting: &str, lack: &str) -> String {
    format!("{setting} is ignored: {lack}.")
}

/// The refusal of a setting that cannot be left out.
pub(super) fn refused(setting: &str, reason: &str) -> CgroupError {
    CgroupError::Unsupported {
        setting: setting.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Sets what belongs to version 1 controllers. A controller that is found on version 2 is left to `v2.rs`.
pub(super) fn apply(
    group: &Cgroup,
    resources: &Resources,
    notes: &mut Vec<String>,
) -> Result<(), CgroupError> {
    if let Some(rules) = &resources.devices
        && let Some(directory) = group.v1("devices")
    {
        devices::apply_v1(directory, rules)?;
    }
    if let Some(directory) = group.v1("memory") {
        memory(directory, &resources.memory, notes)?;
    }
    if let Some(directory) = group.v1("cpu") {
        cpu_time(directory, &resources.cpu, notes)?;
    }
    if let Some(directory) = group.v1("cpuset") {
        cpu_set(directory, &resources.cpu)?;
    }
    if let Some(limit) = resources.pids_limit
        && let Some(directory) = group.v1("pids")
    {
        directory.write("pids.max", &pids(limit))?;
    }
    if let Some(directory) = group.v1("blkio") {
        block_io(directory, &resources.block_io, notes)?;
    }
    if let Some(directory) = group.v1("hugetlb") {
        for limit in &resources.huge_pages {
            let file = format!("hugetlb.{}.limit_in_bytes", limit.page_size);
            huge_page(directory, &file, &limit.page_size, &limit.limit.to_string())?;
            // Reserved pages are limited as well (Linux 5.7), or a reservation could exceed the limit.
            let file = format!("hugetlb.{}.rsvd.limit_in_bytes", limit.page_size);
            directory.write_if_present(&file, &limit.limit.to_string())?;
        }
    }
    if let Some(directory) = group.v1("rdma") {
        rdma(directory, resources)?;
    }
    network(group, &resources.network)
}

/// `pids.max` in both versions.
pub(super) fn pids(limit: i64) -> String {
    if limit < 0 {
        "max".to_owned()
    } else {
        limit.to_string()
    }
}

/// Writes a huge page limit in both versions.
pub(super) fn huge_page(
    directory: &Directory,
    file: &str,
    size: &str,
    value: &str,
) -> Result<(), CgroupError> {
    if size.is_empty() || size.contains('/') {
        return Err(CgroupError::Invalid {
            setting: "huge page size".to_owned(),
            reason: format!("{size:?} is none"),
        });
    }
    if directory.write_if_present(file, value)? {
        Ok(())
    } else {
        Err(refused(
            &format!("the limit of {size} huge pages"),
            "the kernel has no pages of this size",
        ))
    }
}

/// Writes the RDMA limits in both versions.
pub(super) fn rdma(directory: &Directory, resources: &Resources) -> Result<(), CgroupError> {
    for limit in &resources.rdma {
        let mut line = limit.device.clone();
        if let Some(handles) = limit.hca_handles {
            line.push_str(&format!(" hca_handle={handles}"));
        }
        if let Some(objects) = limit.hca_objects {
            line.push_str(&format!(" hca_object={objects}"));
        }
        directory.write("rdma.max", &line)?;
    }
    Ok(())
}

const LIMIT: &str = "memory.limit_in_bytes";
const SWAP: &str = "memory.memsw.limit_in_bytes";

fn memory(
    directory: &Directory,
    memory: &Memory,
    notes: &mut Vec<String>,
) -> Result<(), CgroupError> {
    let mut swap = memory.swap;
    if memory.limit == Some(-1) && swap.is_none() {
        // No limit of memory with a limit of both together left behind would be a limit still.
        swap = Some(-1);
    }
    if let Some(wanted) = swap
        && !directory.has(SWAP)
    {
        if wanted != -1 {
            notes.push(left_out(
                "the swap limit",
                "the kernel does not account for swap; memory alone is limited",
            ));
        }
        swap = None;
    }
    if let Some(limit) = memory.limit
        && memory.check_before_update
    {
        check_usage(directory, "memory.usage_in_bytes", limit)?;
    }
    match (memory.limit, swap) {
        (Some(limit), Some(both)) => {
            // The kernel keeps limit <= limit of both at every moment: when both rise, the sum goes first.
            let present = directory.read_number(LIMIT)?.unwrap_or(u64::MAX);
            let raise = both == -1 || u64::try_from(both).is_ok_and(|both| present < both);
            if raise {
                directory.write(SWAP, &both.to_string())?;
                set_limit(directory, limit)?;
            } else {
                set_limit(directory, limit)?;
                directory.write(SWAP, &both.to_string())?;
            }
        }
        (Some(limit), None) => set_limit(directory, limit)?,
        (None, Some(both)) => directory.write(SWAP, &both.to_string())?,
        (None, None) => {}
    }
    if let Some(reservation) = memory.reservation {
        directory.write("memory.soft_limit_in_bytes", &reservation.to_string())?;
    }
    if memory.kernel.is_some() || memory.kernel_tcp.is_some() {
        notes.push(left_out(
            "the limit of kernel memory",
            "kernels have deprecated it",
        ));
    }
    if let Some(disable) = memory.disable_oom_killer {
        let present = directory.read_key("memory.oom_control", "oom_kill_disable")?;
        if present != Some(u64::from(disable))
            && !directory.write_if_present("memory.oom_control", if disable { "1" } else { "0" })?
        {
            notes.push(left_out(
                "the request to keep the OOM killer away",
                "the kernel has no such switch",
            ));
        }
    }
    if let Some(swappiness) = memory.swappiness {
        if swappiness > 100 {
            return Err(CgroupError::Invalid {
                setting: "memory swappiness".to_owned(),
                reason: format!("{swappiness} is not between 0 and 100"),
            });
        }
        if !directory.write_if_present("memory.swappiness", &swappiness.to_string())? {
            notes.push(left_out(
                "the memory swappiness",
                "the kernel does not have it per group",
            ));
        }
    }
    Ok(())
}

/// Writes the hard limit; a refusal for being below what is in use says so.
fn set_limit(directory: &Directory, limit: i64) -> Result<(), CgroupError> {
    match directory.try_write(LIMIT, &limit.to_string()) {
        Ok(()) => Ok(()),
        Err(source) if source.raw_os_error() == Some(libc::EBUSY) => {
            let usage = directory.read_number("memory.usage_in_bytes")?.unwrap_or(0);
            Err(refused(
                "the memory limit",
                &format!("{usage} bytes are in use and cannot be reclaimed to {limit}"),
            ))
        }
        Err(source) => Err(CgroupError::Write {
            path: directory.path().join(LIMIT),
            value: limit.to_string(),
            source,
        }),
    }
}

/// Refuses a limit below the present usage, in both versions.
pub(super) fn check_usage(
    directory: &Directory,
    file: &str,
    limit: i64,
) -> Result<(), CgroupError> {
    let usage = directory.read_number(file)?.unwrap_or(0);
    match u64::try_from(limit) {
        Ok(limit) if usage > limit => Err(refused(
            "the memory limit",
            &format!("{usage} bytes are in use, more than {limit}"),
        )),
        _ => Ok(()),
    }
}

/// Writes now, or tells that it has to be tried again: the kernel refuses a period or burst that does not fit the
/// quota still in force with EINVAL.
pub(super) fn write_or_defer(
    directory: &Directory,
    file: &str,
    value: &str,
    may_defer: bool,
) -> Result<bool, CgroupError> {
    match directory.try_write(file, value) {
        Ok(()) => Ok(false),
        Err(source) if may_defer && source.kind() == io::ErrorKind::InvalidInput => Ok(true),
        Err(source) => Err(CgroupError::Write {
            path: directory.path().join(file),
            value: value.to_owned(),
            source,
        }),
    }
}

fn cpu_time(directory: &Directory, cpu: &Cpu, notes: &mut Vec<String>) -> Result<(), CgroupError> {
    if let Some(shares) = cpu.shares {
        // The kernel clamps without a word to 2 … 262144.
        let clamped = shares.clamp(2, 262_144);
        if !directory.write_if_present("cpu.shares", &clamped.to_string())? {
            notes.push(left_out(
                "the CPU share",
                "the kernel has no fair group scheduling",
            ));
        } else if clamped != shares {
            notes.push(format!(
                "the CPU share {shares} is out of range, {clamped} is used."
            ));
        }
    }
    if cpu.quota.is_some() || cpu.period.is_some() || cpu.burst.is_some() {
        bandwidth(directory, cpu, notes)?;
    }
    if let Some(idle) = cpu.idle
        && !directory.write_if_present("cpu.idle", &idle.to_string())?
    {
        notes.push(left_out(
            "the idle CPU class",
            "the kernel is older than 5.15",
        ));
    }
    real_time(directory, cpu)
}

fn bandwidth(directory: &Directory, cpu: &Cpu, notes: &mut Vec<String>) -> Result<(), CgroupError> {
    if !directory.has("cpu.cfs_quota_us") {
        notes.push(left_out(
            "the CPU quota",
            "the kernel has no CFS bandwidth control",
        ));
        return Ok(());
    }
    let quota_follows = cpu.quota.is_some();
    let mut late_period = None;
    if let Some(period) = cpu.period {
        let period = period.to_string();
        if write_or_defer(directory, "cpu.cfs_period_us", &period, quota_follows)? {
            late_period = Some(period);
        }
    }
    let mut late_burst = None;
    if let Some(burst) = cpu.burst {
        let burst = burst.to_string();
        if !directory.has("cpu.cfs_burst_us") {
            notes.push(left_out("the CPU burst", "the kernel is older than 5.14"));
        } else if write_or_defer(directory, "cpu.cfs_burst_us", &burst, quota_follows)? {
            late_burst = Some(burst);
        }
    }
    if let Some(quota) = cpu.quota {
        directory.write("cpu.cfs_quota_us", &quota.to_string())?;
    }
    if let Some(period) = late_period {
        directory.write("cpu.cfs_period_us", &period)?;
    }
    if let Some(burst) = late_burst {
        directory.write("cpu.cfs_burst_us", &burst)?;
    }
    Ok(())
}

fn real_time(directory: &Directory, cpu: &Cpu) -> Result<(), CgroupError> {
    if cpu.realtime_period.is_none() && cpu.realtime_runtime.is_none() {
        return Ok(());
    }
    if !directory.has("cpu.rt_runtime_us") {
        return Err(refused(
            "real-time scheduling",
            "the kernel has no real-time group scheduling",
        ));
    }
    let mut late_period = None;
    if let Some(period) = cpu.realtime_period {
        let period = period.to_string();
        if write_or_defer(
            directory,
            "cpu.rt_period_us",
            &period,
            cpu.realtime_runtime.is_some(),
        )? {
            late_period = Some(period);
        }
    }
    if let Some(runtime) = cpu.realtime_runtime {
        directory.write("cpu.rt_runtime_us", &runtime.to_string())?;
    }
    if let Some(period) = late_period {
        directory.write("cpu.rt_period_us", &period)?;
    }
    Ok(())
}

fn cpu_set(directory: &Directory, cpu: &Cpu) -> Result<(), CgroupError> {
    for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if let Some(value) = value {
            directory.write(file, value)?;
        }
    }
    Ok(())
}

fn block_io(
    directory: &Directory,
    block_io: &BlockIo,
    notes: &mut Vec<String>,
) -> Result<(), CgroupError> {
    let weights = ["blkio.weight", "blkio.bfq.weight"];
    if let Some(weight) = block_io.weight {
        let file = weights.iter().find(|file| directory.has(file));
        match file {
            Some(file) => directory.write(file, &weight.to_string())?,
            None => notes.push(left_out(
                "the block I/O weight",
                "no scheduler of this kernel knows weights",
            )),
        }
    }
    if let Some(weight) = block_io.leaf_weight
        && !directory.write_if_present("blkio.leaf_weight", &weight.to_string())?
    {
        notes.push(left_out(
            "the block I/O leaf weight",
            "kernels have it no more since 5.0",
        ));
    }
    for device in &block_io.weight_devices {
        if let Some(weight) = device.weight {
            let line = format!("{}:{} {weight}", device.major, device.minor);
            let file = ["blkio.weight_device", "blkio.bfq.weight_device"]
                .into_iter()
                .find(|file| directory.has(file));
            match file {
                Some(file) => directory.write(file, &line)?,
                None => notes.push(left_out(
                    "the block I/O weight of a device",
                    "no scheduler of this kernel knows weights",
                )),
            }
        }
        if let Some(weight) = device.leaf_weight {
            let line = format!("{}:{} {weight}", device.major, device.minor);
            if !directory.write_if_present("blkio.leaf_weight_device", &line)? {
                notes.push(left_out(
                    "the block I/O leaf weight of a device",
                    "kernels have it no more since 5.0",
                ));
            }
        }
    }
    for (file, rates) in [
        ("blkio.throttle.read_bps_device", &block_io.read_bytes),
        ("blkio.throttle.write_bps_device", &block_io.write_bytes),
        ("blkio.throttle.read_iops_device", &block_io.read_operations),
        (
            "blkio.throttle.write_iops_device",
            &block_io.write_operations,
        ),
    ] {
        for rate in rates {
            let line = format!("{}:{} {}", rate.major, rate.minor, rate.rate);
            if !directory.write_if_present(file, &line)? {
                notes.push(left_out(
                    "the block I/O rate",
                    "the kernel has no block throttling",
                ));
            }
        }
    }
    Ok(())
}

fn network(group: &Cgroup, network: &NetworkClass) -> Result<(), CgroupError> {
    if let Some(class) = network.class_id {
        let directory = group
            .v1("net_cls")
            .ok_or_else(|| refused("the network class", "the net_cls controller is not mounted"))?;
        directory.write("net_cls.classid", &class.to_string())?;
    }
    if !network.priorities.is_empty() {
        let directory = group.v1("net_prio").ok_or_else(|| {
            refused(
                "the network priority",
                "the net_prio controller is not mounted",
            )
        })?;
        for (interface, priority) in &network.priorities {
            directory.write("net_prio.ifpriomap", &format!("{interface} {priority}"))?;
        }
    }
    Ok(())
}
