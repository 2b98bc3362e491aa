//! New limits over the present ones: pure.

use super::spec::Resources;
use crate::error::EngineError;

/// The present limits with those asked for over them, by Docker's rules.
pub(super) fn merge_resources(
    present: &Resources,
    asked: Resources,
) -> Result<Resources, EngineError> {
    let mut merged = present.clone();
    let set = |v: Option<i64>| v.filter(|v| *v != 0);
    if set(asked.nano_cpus).is_some()
        && (present.cpu_period.is_some() || present.cpu_quota.is_some())
    {
        return Err(EngineError::Conflict(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period or Quota has already been set"
                .to_owned(),
        ));
    }
    if (set(asked.cpu_period).is_some() || set(asked.cpu_quota).is_some())
        && set(present.nano_cpus).is_some()
    {
        return Err(EngineError::Conflict(
            "Conflicting options: CPU Period or Quota cannot be updated as NanoCPUs has already been set"
                .to_owned(),
        ));
    }
    if let Some(memory) = set(asked.memory) {
        // Growing beyond the present limit of memory and swap needs a new one of these, too.
        let swap = set(asked.memory_swap).or(present.memory_swap);
        if set(asked.memory_swap).is_none() && swap.is_some_and(|swap| swap > 0 && memory > swap) {
            return Err(EngineError::Conflict(
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
                    .to_owned(),
            ));
        }
        merged.memory = Some(memory);
    }
    let over = |to: &mut Option<i64>, from: Option<i64>| {
        if let Some(value) = set(from) {
            *to = Some(value);
        }
    };
    over(&mut merged.cpu_shares, asked.cpu_shares);
    over(&mut merged.nano_cpus, asked.nano_cpus);
    over(&mut merged.cpu_period, asked.cpu_period);
    over(&mut merged.cpu_quota, asked.cpu_quota);
    over(&mut merged.cpu_realtime_period, asked.cpu_realtime_period);
    over(&mut merged.cpu_realtime_runtime, asked.cpu_realtime_runtime);
    over(&mut merged.memory_swap, asked.memory_swap);
    over(&mut merged.memory_reservation, asked.memory_reservation);
    if asked.pids_limit.is_some() {
        merged.pids_limit = asked.pids_limit;
    }
    if asked.blkio_weight.is_some_and(|w| w != 0) {
        merged.blkio_weight = asked.blkio_weight;
    }
    for (to, from) in [
        (&mut merged.cpuset_cpus, asked.cpuset_cpus),
        (&mut merged.cpuset_mems, asked.cpuset_mems),
    ] {
        if !from.is_empty() {
            *to = from;
        }
    }
    if !asked.blkio_weight_device.is_empty() {
        merged.blkio_weight_device = asked.blkio_weight_device;
    }
    for (to, from) in [
        (&mut merged.blkio_read_bps, asked.blkio_read_bps),
        (&mut merged.blkio_write_bps, asked.blkio_write_bps),
        (&mut merged.blkio_read_iops, asked.blkio_read_iops),
        (&mut merged.blkio_write_iops, asked.blkio_write_iops),
    ] {
        if !from.is_empty() {
            *to = from;
        }
    }
    Ok(merged)
}
