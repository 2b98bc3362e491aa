//! Limits as the OCI specification words them.

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPidsBuilder, LinuxResources, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder, LinuxWeightDevice, LinuxWeightDeviceBuilder,
};

use super::{Surroundings, devices, invalid};
use crate::containers::record::ContainerRecord;
use crate::containers::spec::{DeviceRate, DeviceWeight, Resources};
use crate::error::EngineError;
use crate::system::HostFeatures;

/// Period of the CPU quota that `--cpus` is turned into, in microseconds.
const CPU_PERIOD: i64 = 100_000;

pub(super) fn of_start(
    record: &ContainerRecord,
    features: &HostFeatures,
    surroundings: &Surroundings,
) -> Result<LinuxResources, EngineError> {
    let _ = features;
    let mut resources = limits(&record.resources, &surroundings.block_devices)?;
    resources.set_devices(Some(devices::rules(
        &surroundings.devices,
        &record.resources.device_cgroup_rules,
        record.spec.host.privileged,
    )?));
    Ok(resources)
}

/// Block devices whose numbers the limits need.
pub fn needed_devices(resources: &Resources) -> impl Iterator<Item = &str> {
    let rates = [
        &resources.blkio_read_bps,
        &resources.blkio_write_bps,
        &resources.blkio_read_iops,
        &resources.blkio_write_iops,
    ];
    rates.into_iter().flatten().map(|r| r.path.as_str()).chain(
        resources
            .blkio_weight_device
            .iter()
            .map(|w| w.path.as_str()),
    )
}

/// Limits, without device rules. `numbers` has every block device that is named.
///
/// # Errors
/// When a value does not fit, or a device is missing.
pub fn limits(
    resources: &Resources,
    numbers: &HashMap<String, (i64, i64)>,
) -> Result<LinuxResources, EngineError> {
    let mut all = LinuxResources::default();
    all.set_devices(None);
    all.set_memory(memory(resources));
    all.set_cpu(cpu(resources)?);
    all.set_block_io(block_io(resources, numbers)?);
    if let Some(limit) = resources.pids_limit {
        let limit = if limit <= 0 { -1 } else { limit };
        all.set_pids(Some(
            LinuxPidsBuilder::default()
                .limit(limit)
                .build()
                .map_err(invalid)?,
        ));
    }
    Ok(all)
}

fn memory(resources: &Resources) -> Option<LinuxMemory> {
    let mut memory = LinuxMemory::default();
    memory.set_limit(resources.memory.filter(|m| *m != 0));
    memory.set_reservation(resources.memory_reservation.filter(|m| *m > 0));
    memory.set_swap(resources.memory_swap.filter(|m| *m != 0));
    memory.set_swappiness(
        resources
            .memory_swappiness
            .and_then(|s| u64::try_from(s).ok()),
    );
    memory.set_disable_oom_killer(resources.oom_kill_disable);
    (memory != LinuxMemory::default()).then_some(memory)
}

fn cpu(resources: &Resources) -> Result<Option<LinuxCpu>, EngineError> {
    let unsigned = |what: &str, value: i64| {
        u64::try_from(value).map_err(|_| EngineError::Invalid(format!("invalid {what}: {value}")))
    };
    let mut cpu = LinuxCpu::default();
    if let Some(shares) = resources.cpu_shares {
        cpu.set_shares(Some(unsigned("CPU shares", shares)?));
    }
    if let Some(nano) = resources.nano_cpus.filter(|n| *n > 0) {
        cpu.set_period(Some(unsigned("CPU period", CPU_PERIOD)?));
        cpu.set_quota(Some(
            i64::try_from(i128::from(nano) * i128::from(CPU_PERIOD) / 1_000_000_000)
                .unwrap_or(i64::MAX),
        ));
    }
    if let Some(period) = resources.cpu_period {
        cpu.set_period(Some(unsigned("CPU period", period)?));
    }
    if let Some(quota) = resources.cpu_quota {
        cpu.set_quota(Some(quota));
    }
    if let Some(period) = resources.cpu_realtime_period {
        cpu.set_realtime_period(Some(unsigned("CPU real-time period", period)?));
    }
    cpu.set_realtime_runtime(resources.cpu_realtime_runtime);
    let set = |text: &String| (!text.is_empty()).then(|| text.clone());
    cpu.set_cpus(set(&resources.cpuset_cpus));
    cpu.set_mems(set(&resources.cpuset_mems));
    Ok((cpu != LinuxCpu::default()).then_some(cpu))
}

fn block_io(
    resources: &Resources,
    numbers: &HashMap<String, (i64, i64)>,
) -> Result<Option<LinuxBlockIo>, EngineError> {
    let number = |path: &str| {
        numbers
            .get(path)
            .copied()
            .ok_or_else(|| EngineError::Invalid(format!("no such block device: {path}")))
    };
    let rates = |list: &[DeviceRate]| -> Result<Option<Vec<LinuxThrottleDevice>>, EngineError> {
        let all = list
            .iter()
            .map(|rate| {
                let (major, minor) = number(&rate.path)?;
                LinuxThrottleDeviceBuilder::default()
                    .major(major)
                    .minor(minor)
                    .rate(rate.rate)
                    .build()
                    .map_err(invalid)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok((!all.is_empty()).then_some(all))
    };
    let weights = |list: &[DeviceWeight]| -> Result<Option<Vec<LinuxWeightDevice>>, EngineError> {
        let all = list
            .iter()
            .map(|weight| {
                let (major, minor) = number(&weight.path)?;
                LinuxWeightDeviceBuilder::default()
                    .major(major)
                    .minor(minor)
                    .weight(weight.weight)
                    .build()
                    .map_err(invalid)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok((!all.is_empty()).then_some(all))
    };
    let mut block = LinuxBlockIo::default();
    block.set_weight(resources.blkio_weight.filter(|w| *w != 0));
    block.set_weight_device(weights(&resources.blkio_weight_device)?);
    block.set_throttle_read_bps_device(rates(&resources.blkio_read_bps)?);
    block.set_throttle_write_bps_device(rates(&resources.blkio_write_bps)?);
    block.set_throttle_read_iops_device(rates(&resources.blkio_read_iops)?);
    block.set_throttle_write_iops_device(rates(&resources.blkio_write_iops)?);
    Ok((block != LinuxBlockIo::default()).then_some(block))
}
