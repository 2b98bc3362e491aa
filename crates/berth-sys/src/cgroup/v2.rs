//! Limits on version 2 controllers, and the conversion of version 1 notions to them.

use super::create::hand_down_controllers;
use super::directory::Directory;
use super::v1::{check_usage, huge_page, left_out, pids, rdma, refused, write_or_defer};
use super::{BlockIo, Cgroup, CgroupError, Cpu, Memory, Resources, device_filter};

/// Sets everything that no version 1 controller takes care of.
pub(super) fn apply(
    group: &Cgroup,
    directory: &Directory,
    resources: &Resources,
    notes: &mut Vec<String>,
) -> Result<(), CgroupError> {
    if let Some(rules) = &resources.devices
        && group.v1("devices").is_none()
    {
        device_filter::apply(directory, rules)?;
    }
    let controllers = Controllers::of(group, directory, resources)?;
    if group.v1("memory").is_none() {
        memory(directory, &controllers, &resources.memory, notes)?;
    }
    if group.v1("cpu").is_none() {
        cpu_time(directory, &controllers, &resources.cpu, notes)?;
    }
    if group.v1("cpuset").is_none()
        && (resources.cpu.cpus.is_some() || resources.cpu.mems.is_some())
    {
        if controllers.has("cpuset") {
            for (file, value) in [
                ("cpuset.cpus", &resources.cpu.cpus),
                ("cpuset.mems", &resources.cpu.mems),
            ] {
                if let Some(value) = value {
                    directory.write(file, value)?;
                }
            }
        } else {
            notes.push(left_out("the cpuset", &controllers.lack("cpuset")));
        }
    }
    if let Some(limit) = resources.pids_limit
        && group.v1("pids").is_none()
    {
        if controllers.has("pids") {
            directory.write("pids.max", &pids(limit))?;
        } else {
            notes.push(left_out(
                "the limit of processes",
                &controllers.lack("pids"),
            ));
        }
    }
    if group.v1("blkio").is_none() {
        block_io(directory, &controllers, &resources.block_io, notes)?;
    }
    if group.v1("hugetlb").is_none() && !resources.huge_pages.is_empty() {
        if !controllers.has("hugetlb") {
            return Err(refused(
                "the limit of huge pages",
                &controllers.lack("hugetlb"),
            ));
        }
        for limit in &resources.huge_pages {
            let value = if limit.limit < 0 {
                "max".to_owned()
            } else {
                limit.limit.to_string()
            };
            huge_page(
                directory,
                &format!("hugetlb.{}.max", limit.page_size),
                &limit.page_size,
                &value,
            )?;
            directory.write_if_present(&format!("hugetlb.{}.rsvd.max", limit.page_size), &value)?;
        }
    }
    if group.v1("rdma").is_none() && !resources.rdma.is_empty() {
        if !controllers.has("rdma") {
            return Err(refused("the RDMA limits", &controllers.lack("rdma")));
        }
        rdma(directory, resources)?;
    }
    if group.v1.is_empty() {
        if resources.network.class_id.is_some() {
            return Err(refused(
                "the network class",
                "control groups version 2 have no net_cls",
            ));
        }
        if !resources.network.priorities.is_empty() {
            return Err(refused(
                "the network priority",
                "control groups version 2 have no net_prio",
            ));
        }
    }
    Ok(())
}

/// Writes the files of the `unified` map. On version 1 there is nothing to write to.
pub(super) fn unified(group: &Cgroup, resources: &Resources) -> Result<(), CgroupError> {
    for (file, value) in &resources.unified {
        if file.contains('/') || !file.contains('.') || file.starts_with("cgroup.") {
            return Err(CgroupError::Invalid {
                setting: format!("unified resource {file:?}"),
                reason: "it is not the name of a controller's file".to_owned(),
            });
        }
        let setting = format!("the unified resource {file}");
        let Some(directory) = &group.unified else {
            return Err(refused(&setting, "there is no version 2 hierarchy"));
        };
        // A value of several lines is one write per line: files such as io.max take one device at a time.
        for line in value.lines() {
            if !directory.write_if_present(file, line)? {
                let controller = file.split('.').next().unwrap_or(file);
                let lack = Controllers::of(group, directory, resources)?.lack(controller);
                return Err(refused(&setting, &lack));
            }
        }
    }
    Ok(())
}

/// What the group was handed down.
struct Controllers {
    listed: String,
    kind: String,
}

impl Controllers {
    fn of(
        group: &Cgroup,
        directory: &Directory,
        resources: &Resources,
    ) -> Result<Self, CgroupError> {
        let mut listed = directory.read("cgroup.controllers")?.unwrap_or_default();
        for (name, v1_name) in needed(resources) {
            if group.v1(v1_name).is_none()
                && !listed.split_whitespace().any(|listed| listed == name)
            {
                hand_down_controllers(directory.path(), Some(name))?;
                listed = directory.read("cgroup.controllers")?.unwrap_or_default();
            }
        }
        let kind = directory.read("cgroup.type")?.unwrap_or_default();
        Ok(Self {
            listed,
            kind: kind.trim().to_owned(),
        })
    }

    fn has(&self, name: &str) -> bool {
        self.listed.split_whitespace().any(|listed| listed == name)
    }

    /// Why a controller is missing.
    fn lack(&self, name: &str) -> String {
        if matches!(self.kind.as_str(), "threaded" | "domain threaded") {
            return format!("the {name} controller does not work in a threaded control group");
        }
        format!(
            "the {name} controller is not handed down to the group (absent, or a group above holds processes)"
        )
    }
}

/// Controllers the limits need: their names on version 2 and on version 1.
fn needed(resources: &Resources) -> impl Iterator<Item = (&'static str, &'static str)> {
    let cpu = &resources.cpu;
    let time =
        cpu.shares.is_some() || cpu.quota.is_some() || cpu.period.is_some() || cpu.burst.is_some();
    let memory = &resources.memory;
    [
        (
            memory.limit.is_some() || memory.swap.is_some() || memory.reservation.is_some(),
            "memory",
            "memory",
        ),
        (time || cpu.idle.is_some(), "cpu", "cpu"),
        (cpu.cpus.is_some() || cpu.mems.is_some(), "cpuset", "cpuset"),
        (resources.pids_limit.is_some(), "pids", "pids"),
        (resources.block_io != BlockIo::default(), "io", "blkio"),
        (!resources.huge_pages.is_empty(), "hugetlb", "hugetlb"),
        (!resources.rdma.is_empty(), "rdma", "rdma"),
    ]
    .into_iter()
    .filter_map(|(asked, name, v1_name)| asked.then_some((name, v1_name)))
}

/// A version 1 limit in the words of version 2.
fn limit_text(limit: i64) -> String {
    if limit < 0 {
        "max".to_owned()
    } else {
        limit.to_string()
    }
}

/// The swap limit of version 2, which counts swap alone, from a limit of memory and swap together.
fn swap_alone(limit: Option<i64>, both: Option<i64>) -> Result<Option<i64>, CgroupError> {
    let invalid = |reason: &str| {
        Err(CgroupError::Invalid {
            setting: "swap limit".to_owned(),
            reason: reason.to_owned(),
        })
    };
    match (limit, both) {
        (Some(-1), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(-1)) => Ok(Some(-1)),
        (Some(-1), Some(both)) => Ok(Some(both)),
        (None, Some(_)) => invalid("it needs a memory limit beside it"),
        (Some(limit), Some(both)) if both < limit => invalid(&format!(
            "memory and swap together ({both}) must not be less than memory ({limit})"
        )),
        (Some(limit), Some(both)) => Ok(Some(both - limit)),
    }
}

fn memory(
    directory: &Directory,
    controllers: &Controllers,
    memory: &Memory,
    notes: &mut Vec<String>,
) -> Result<(), CgroupError> {
    if memory.kernel.is_some() || memory.kernel_tcp.is_some() {
        notes.push(left_out(
            "the limit of kernel memory",
            "control groups version 2 do not have it",
        ));
    }
    if memory.disable_oom_killer == Some(true) {
        notes.push(left_out(
            "the request to keep the OOM killer away",
            "control groups version 2 do not have it",
        ));
    }
    if memory.swappiness.is_some() {
        notes.push(left_out(
            "the memory swappiness",
            "control groups version 2 do not have it",
        ));
    }
    if memory.limit.is_none() && memory.swap.is_none() && memory.reservation.is_none() {
        return Ok(());
    }
    if !controllers.has("memory") {
        notes.push(left_out("the memory limit", &controllers.lack("memory")));
        return Ok(());
    }
    if let Some(limit) = memory.limit
        && memory.check_before_update
    {
        check_usage(directory, "memory.current", limit)?;
    }
    if let Some(swap) = swap_alone(memory.limit, memory.swap)?
        && !directory.write_if_present("memory.swap.max", &limit_text(swap))?
        && swap > 0
    {
        notes.push(left_out(
            "the swap limit",
            "the kernel does not account for swap; memory alone is limited",
        ));
    }
    if let Some(limit) = memory.limit {
        directory.write("memory.max", &limit_text(limit))?;
    }
    if let Some(reservation) = memory.reservation {
        directory.write("memory.low", &limit_text(reservation))?;
    }
    Ok(())
}

/// A weight of version 2 (1 … 10000, 100 by default) from a share of version 1 (2 … 262144, 1024 by default): a
/// curve through both ends and the defaults, as other runtimes use it since 2025. The linear one before gave
/// the default share a weight of 39.
#[must_use]
pub fn weight_from_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            #[expect(clippy::cast_precision_loss, reason = "below 2^18")]
            let logarithm = (shares as f64).log2();
            let exponent = (logarithm * logarithm + 125.0 * logarithm) / 612.0 - 7.0 / 34.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and 10000"
            )]
            let weight = 10_f64.powf(exponent).ceil() as u64;
            weight.clamp(1, 10_000)
        }
    }
}

/// A weight of `io.weight` (1 … 10000) from a block weight of version 1 (10 … 1000), in proportion.
fn io_weight(weight: u16) -> u64 {
    let weight = u64::from(weight.clamp(10, 1000));
    1 + (weight - 10) * 9999 / 990
}

fn cpu_time(
    directory: &Directory,
    controllers: &Controllers,
    cpu: &Cpu,
    notes: &mut Vec<String>,
) -> Result<(), CgroupError> {
    if cpu.realtime_period.is_some() || cpu.realtime_runtime.is_some() {
        return Err(refused(
            "real-time scheduling",
            "control groups version 2 do not have it",
        ));
    }
    let wanted = cpu.shares.is_some()
        || cpu.quota.is_some()
        || cpu.period.is_some()
        || cpu.burst.is_some()
        || cpu.idle.is_some();
    if !wanted {
        return Ok(());
    }
    if !controllers.has("cpu") {
        notes.push(left_out("the CPU limit", &controllers.lack("cpu")));
        return Ok(());
    }
    if let Some(idle) = cpu.idle
        && !directory.write_if_present("cpu.idle", &idle.to_string())?
    {
        notes.push(left_out(
            "the idle CPU class",
            "the kernel is older than 5.15",
        ));
    }
    if let Some(shares) = cpu.shares {
        // A group of the idle class has no weight: the kernel refuses it.
        if cpu.idle == Some(1) {
            notes.push(left_out("the CPU share", "the idle CPU class has none"));
        } else {
            directory.write("cpu.weight", &weight_from_shares(shares).to_string())?;
        }
    }
    let mut late_burst = None;
    if let Some(burst) = cpu.burst {
        let burst = burst.to_string();
        if !directory.has("cpu.max.burst") {
            notes.push(left_out("the CPU burst", "the kernel is older than 5.14"));
        } else if write_or_defer(directory, "cpu.max.burst", &burst, cpu.quota.is_some())? {
            late_burst = Some(burst);
        }
    }
    if cpu.quota.is_some() || cpu.period.is_some() {
        directory.write("cpu.max", &bandwidth(directory, cpu)?)?;
    }
    if let Some(burst) = late_burst {
        directory.write("cpu.max.burst", &burst)?;
    }
    Ok(())
}

/// The line of `cpu.max`. What is not asked for stays as it is.
fn bandwidth(directory: &Directory, cpu: &Cpu) -> Result<String, CgroupError> {
    let present = directory.read("cpu.max")?.unwrap_or_default();
    let mut fields = present.split_whitespace();
    let (quota, period) = (
        fields.next().unwrap_or("max"),
        fields.next().unwrap_or("100000"),
    );
    let quota = match cpu.quota {
        Some(wanted) if wanted > 0 => wanted.to_string(),
        Some(_) => "max".to_owned(),
        None => quota.to_owned(),
    };
    let period = cpu
        .period
        .map_or_else(|| period.to_owned(), |period| period.to_string());
    Ok(format!("{quota} {period}"))
}

fn block_io(
    directory: &Directory,
    controllers: &Controllers,
    block_io: &BlockIo,
    notes: &mut Vec<String>,
) -> Result<(), CgroupError> {
    if *block_io == BlockIo::default() {
        return Ok(());
    }
    if !controllers.has("io") {
        notes.push(left_out("the block I/O limit", &controllers.lack("io")));
        return Ok(());
    }
    let no_weight = "no scheduler of this kernel knows weights";
    if let Some(weight) = block_io.weight
        && !directory.write_if_present("io.bfq.weight", &weight.to_string())?
        && !directory.write_if_present("io.weight", &format!("default {}", io_weight(weight)))?
    {
        notes.push(left_out("the block I/O weight", no_weight));
    }
    if block_io.leaf_weight.is_some()
        || block_io
            .weight_devices
            .iter()
            .any(|device| device.leaf_weight.is_some())
    {
        notes.push(left_out(
            "the block I/O leaf weight",
            "control groups version 2 do not have it",
        ));
    }
    for device in &block_io.weight_devices {
        let Some(weight) = device.weight else {
            continue;
        };
        let numbers = format!("{}:{}", device.major, device.minor);
        if !directory.write_if_present("io.bfq.weight", &format!("{numbers} {weight}"))?
            && !directory
                .write_if_present("io.weight", &format!("{numbers} {}", io_weight(weight)))?
        {
            notes.push(left_out("the block I/O weight of a device", no_weight));
        }
    }
    for (key, rates) in [
        ("rbps", &block_io.read_bytes),
        ("wbps", &block_io.write_bytes),
        ("riops", &block_io.read_operations),
        ("wiops", &block_io.write_operations),
    ] {
        for rate in rates {
            let value = if rate.rate == 0 {
                "max".to_owned()
            } else {
                rate.rate.to_string()
            };
            let line = format!("{}:{} {key}={value}", rate.major, rate.minor);
            if !directory.write_if_present("io.max", &line)? {
                notes.push(left_out(
                    "the block I/O rate",
                    "the kernel has no block throttling",
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_meet_both_ends_and_the_default() {
        for (shares, weight) in [
            (0, 1),
            (2, 1),
            (1024, 100),
            (262_144, 10_000),
            (1 << 40, 10_000),
            (512, 59),
            (4096, 303),
        ] {
            assert_eq!(weight_from_shares(shares), weight, "{shares}");
        }
        assert!(
            (3..262_144).all(|shares| weight_from_shares(shares) >= weight_from_shares(shares - 1))
        );
        assert_eq!(
            (io_weight(10), io_weight(500), io_weight(1000)),
            (1, 4950, 10_000)
        );
    }

    #[test]
    fn swap_is_counted_alone() {
        assert_eq!(swap_alone(Some(100), Some(300)).unwrap(), Some(200));
        assert_eq!(swap_alone(Some(100), Some(100)).unwrap(), Some(0));
        assert_eq!(swap_alone(Some(100), Some(-1)).unwrap(), Some(-1));
        assert_eq!(swap_alone(Some(-1), None).unwrap(), Some(-1));
        assert_eq!(swap_alone(Some(-1), Some(300)).unwrap(), Some(300));
        assert_eq!(swap_alone(Some(100), None).unwrap(), None);
        assert!(swap_alone(None, Some(300)).is_err());
        assert!(swap_alone(Some(100), Some(50)).is_err());
    }
}
