//! From the `linux.resources` of the OCI specification to the limits of [`berth_sys::cgroup`].
//!
//! Owns the meaning of the specification's fields: what counts as unset, which values are refused, which devices
//! every container may use. Does not write anything; pure.

use berth_sys::cgroup::{
    BlockIo, Cpu, DeviceAccess, DeviceKind, DeviceRate, DeviceRule, DeviceWeight, HugePageLimit,
    Memory, NetworkClass, RdmaLimit, Resources,
};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources,
    LinuxThrottleDevice,
};

/// A field of `linux.resources` that makes no sense.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("linux.resources.{field}: {reason}")]
pub struct ResourcesError {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

fn invalid(field: impl Into<String>, reason: impl Into<String>) -> ResourcesError {
    ResourcesError {
        field: field.into(),
        reason: reason.into(),
    }
}

/// Devices every container may use, after what its configuration says: any node may be made, and the default devices of
/// the specification (config-linux.md, "Default Devices"), its terminals and `/dev/net/tun` may be opened.
pub const DEFAULT_DEVICES: [DeviceRule; 11] = [
    DeviceRule {
        access: MAKE_NODE,
        ..character(None, None)
    },
    DeviceRule {
        access: MAKE_NODE,
        kind: DeviceKind::Block,
        ..character(None, None)
    },
    character(Some(1), Some(3)),
    character(Some(1), Some(5)),
    character(Some(1), Some(7)),
    character(Some(1), Some(8)),
    character(Some(1), Some(9)),
    character(Some(5), Some(0)),
    character(Some(5), Some(2)),
    character(Some(136), None),
    character(Some(10), Some(200)),
];

const MAKE_NODE: DeviceAccess = DeviceAccess {
    read: false,
    write: false,
    make_node: true,
};

const fn character(major: Option<u32>, minor: Option<u32>) -> DeviceRule {
    DeviceRule {
        allow: true,
        kind: DeviceKind::Character,
        major,
        minor,
        access: DeviceAccess::ALL,
    }
}

/// Limits of a new container. Device access is always restricted: to the rules of the configuration, which start from
/// "nothing", followed by [`DEFAULT_DEVICES`].
///
/// # Errors
/// As [`resources`].
pub fn for_creation(spec: Option<&LinuxResources>) -> Result<Resources, ResourcesError> {
    let mut limits = match spec {
        Some(spec) => resources(spec)?,
        None => Resources::default(),
    };
    limits
        .devices
        .get_or_insert_with(Vec::new)
        .extend(DEFAULT_DEVICES);
    Ok(limits)
}

/// Changed limits of a container that exists. Without device rules, device access stays as it is.
///
/// # Errors
/// As [`resources`].
pub fn for_update(spec: &LinuxResources) -> Result<Resources, ResourcesError> {
    let mut limits = resources(spec)?;
    if let Some(rules) = &mut limits.devices {
        rules.extend(DEFAULT_DEVICES);
    }
    Ok(limits)
}

/// Limits as the control groups take them, word for word. A 0 where only −1 and positive numbers mean something, and an
/// empty text, count as unset, as callers that always fill every field expect. `devices` is `None` when the list is
/// absent or empty.
///
/// # Errors
/// For device rules without access or with numbers that do not fit, and for negative values that mean nothing.
pub fn resources(spec: &LinuxResources) -> Result<Resources, ResourcesError> {
    let mut limits = Resources::default();
    if let Some(rules) = spec.devices()
        && !rules.is_empty()
    {
        let rules = rules
            .iter()
            .enumerate()
            .map(|(at, rule)| device(at, rule))
            .collect::<Result<_, _>>()?;
        limits.devices = Some(rules);
    }
    if let Some(spec) = spec.memory() {
        limits.memory = memory(spec)?;
    }
    if let Some(spec) = spec.cpu() {
        limits.cpu = cpu(spec)?;
    }
    limits.pids_limit = spec
        .pids()
        .map(|pids| pids.limit())
        .filter(|limit| *limit != 0);
    if let Some(spec) = spec.block_io() {
        limits.block_io = block_io(spec)?;
    }
    for limit in spec.hugepage_limits().iter().flatten() {
        limits.huge_pages.push(HugePageLimit {
            page_size: limit.page_size().clone(),
            limit: limit.limit(),
        });
    }
    if let Some(devices) = spec.rdma() {
        for (name, limit) in devices {
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(invalid(
                    "rdma",
                    format!("{name:?} is not the name of a device"),
                ));
            }
            limits.rdma.push(RdmaLimit {
                device: name.clone(),
                hca_handles: limit.hca_handles(),
                hca_objects: limit.hca_objects(),
            });
        }
        limits.rdma.sort_by(|one, two| one.device.cmp(&two.device));
    }
    if let Some(network) = spec.network() {
        let priorities = network.priorities().iter().flatten();
        limits.network = NetworkClass {
            class_id: network.class_id().filter(|class| *class != 0),
            priorities: priorities
                .map(|priority| (priority.name().clone(), priority.priority()))
                .collect(),
        };
    }
    for (file, value) in spec.unified().iter().flatten() {
        limits.unified.insert(file.clone(), value.clone());
    }
    Ok(limits)
}

fn device(at: usize, rule: &LinuxDeviceCgroup) -> Result<DeviceRule, ResourcesError> {
    let field = |name: &str| format!("devices[{at}].{name}");
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => DeviceKind::All,
        Some(LinuxDeviceType::B) => DeviceKind::Block,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceKind::Character,
        Some(LinuxDeviceType::P) => return Err(invalid(field("type"), "a FIFO is not a device")),
    };
    let number = |name: &str, number: Option<i64>| match number {
        // −1 is how configurations that cannot leave a field out say "every one".
        None | Some(-1) => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(invalid(
                field(name),
                format!("{number} is not a device number"),
            )),
        },
    };
    // A configuration without access means all of it: only the denying first rule is written like that.
    let access = match rule.access().as_deref() {
        None | Some("") if !rule.allow() => DeviceAccess::ALL,
        None | Some("") => return Err(invalid(field("access"), "it must not be empty")),
        Some(text) => DeviceAccess::parse(text).ok_or_else(|| {
            invalid(
                field("access"),
                format!("{text:?} is not made of the letters r, w and m"),
            )
        })?,
    };
    let (major, minor) = (
        number("major", rule.major())?,
        number("minor", rule.minor())?,
    );
    Ok(DeviceRule {
        allow: rule.allow(),
        kind,
        major,
        minor,
        access,
    })
}

/// A limit where 0 means unset, −1 none, and anything below is wrong.
fn limit(field: &str, value: Option<i64>) -> Result<Option<i64>, ResourcesError> {
    match value {
        Some(..-1) => Err(invalid(field, "it must be −1 or more")),
        other => Ok(other.filter(|value| *value != 0)),
    }
}

fn memory(spec: &LinuxMemory) -> Result<Memory, ResourcesError> {
    // Some callers write −1, as an unsigned number, for "leave it".
    let swappiness = spec
        .swappiness()
        .filter(|swappiness| *swappiness != u64::MAX);
    if swappiness.is_some_and(|swappiness| swappiness > 100) {
        return Err(invalid("memory.swappiness", "it must be between 0 and 100"));
    }
    let memory = Memory {
        limit: limit("memory.limit", spec.limit())?,
        swap: limit("memory.swap", spec.swap())?,
        reservation: limit("memory.reservation", spec.reservation())?,
        kernel: limit("memory.kernel", spec.kernel())?,
        kernel_tcp: limit("memory.kernelTCP", spec.kernel_tcp())?,
        swappiness,
        disable_oom_killer: spec.disable_oom_killer(),
        check_before_update: spec.check_before_update().unwrap_or(false),
    };
    if let (Some(limit), Some(swap)) = (memory.limit, memory.swap)
        && limit > 0
        && swap > 0
        && swap < limit
    {
        return Err(invalid(
            "memory.swap",
            "memory and swap together must not be less than memory",
        ));
    }
    Ok(memory)
}

fn cpu(spec: &LinuxCpu) -> Result<Cpu, ResourcesError> {
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let idle = spec.idle();
    if idle.is_some_and(|idle| idle != 0 && idle != 1) {
        return Err(invalid("cpu.idle", "it must be 0 or 1"));
    }
    Ok(Cpu {
        shares: spec.shares().filter(|shares| *shares != 0),
        // Every negative quota means none; the kernel takes −1 only.
        quota: spec
            .quota()
            .filter(|quota| *quota != 0)
            .map(|quota| quota.max(-1)),
        period: spec.period().filter(|period| *period != 0),
        burst: spec.burst(),
        realtime_runtime: spec.realtime_runtime().filter(|runtime| *runtime != 0),
        realtime_period: spec.realtime_period().filter(|period| *period != 0),
        cpus: text(spec.cpus()),
        mems: text(spec.mems()),
        idle,
    })
}

fn block_io(spec: &LinuxBlockIo) -> Result<BlockIo, ResourcesError> {
    let weight = |field: &str, weight: Option<u16>| match weight {
        None | Some(0) => Ok(None),
        Some(weight @ 10..=1000) => Ok(Some(weight)),
        Some(_) => Err(invalid(field, "it must be between 10 and 1000")),
    };
    let rates = |devices: &Option<Vec<LinuxThrottleDevice>>| -> Vec<DeviceRate> {
        let devices = devices.iter().flatten();
        devices
            .map(|device| DeviceRate {
                major: device.major(),
                minor: device.minor(),
                rate: device.rate(),
            })
            .collect()
    };
    let mut weight_devices = Vec::new();
    for device in spec.weight_device().iter().flatten() {
        weight_devices.push(DeviceWeight {
            major: device.major(),
            minor: device.minor(),
            weight: weight("blockIO.weightDevice.weight", device.weight())?,
            leaf_weight: weight("blockIO.weightDevice.leafWeight", device.leaf_weight())?,
        });
    }
    Ok(BlockIo {
        weight: weight("blockIO.weight", spec.weight())?,
        leaf_weight: weight("blockIO.leafWeight", spec.leaf_weight())?,
        weight_devices,
        read_bytes: rates(spec.throttle_read_bps_device()),
        write_bytes: rates(spec.throttle_write_bps_device()),
        read_operations: rates(spec.throttle_read_iops_device()),
        write_operations: rates(spec.throttle_write_iops_device()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_field_arrives() {
        let spec = parse(
            r#"{
            "devices": [{"allow": false, "access": "rwm"},
                        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
                        {"allow": true, "type": "b", "major": 8, "minor": -1, "access": "r"}],
            "memory": {"limit": 100, "swap": 200, "reservation": 50, "swappiness": 7, "disableOOMKiller": true,
                       "checkBeforeUpdate": true, "kernel": 5},
            "cpu": {"shares": 512, "quota": -5, "period": 1000, "burst": 10, "realtimeRuntime": 3,
                    "realtimePeriod": 4, "cpus": "0-1", "mems": "0", "idle": 1},
            "pids": {"limit": 64},
            "blockIO": {"weight": 10, "leafWeight": 1000,
                        "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                        "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                        "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
                        "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 9}],
            "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3}},
            "unified": {"memory.high": "max"}
        }"#,
        );
        let limits = resources(&spec).unwrap();
        let rules = limits.devices.unwrap();
        assert_eq!(rules[0], DeviceRule::DENY_ALL);
        assert_eq!(
            (
                rules[1].major,
                rules[1].minor,
                rules[1].access.to_string().as_str()
            ),
            (Some(10), Some(229), "rw")
        );
        assert_eq!((rules[2].kind, rules[2].minor), (DeviceKind::Block, None));
        assert_eq!(
            (
                limits.memory.limit,
                limits.memory.swap,
                limits.memory.reservation
            ),
            (Some(100), Some(200), Some(50))
        );
        assert_eq!(
            (limits.memory.swappiness, limits.memory.kernel),
            (Some(7), Some(5))
        );
        assert!(limits.memory.check_before_update);
        assert_eq!(limits.cpu.quota, Some(-1));
        assert_eq!(
            (
                limits.cpu.burst,
                limits.cpu.realtime_runtime,
                limits.cpu.idle
            ),
            (Some(10), Some(3), Some(1))
        );
        assert_eq!(limits.cpu.cpus.as_deref(), Some("0-1"));
        assert_eq!(limits.pids_limit, Some(64));
        assert_eq!(limits.block_io.weight_devices[0].leaf_weight, Some(300));
        let rates = [
            &limits.block_io.read_bytes,
            &limits.block_io.write_bytes,
            &limits.block_io.read_operations,
            &limits.block_io.write_operations,
        ];
        assert_eq!(rates.map(|rates| rates[0].rate), [1, 2, 3, 4]);
        assert_eq!(limits.huge_pages[0].page_size, "2MB");
        assert_eq!(limits.network.priorities, [("eth0".to_owned(), 5)]);
        assert_eq!(
            (limits.rdma[0].hca_handles, limits.rdma[0].hca_objects),
            (Some(3), None)
        );
        assert_eq!(limits.unified["memory.high"], "max");
    }

    #[test]
    fn zeroes_and_empty_texts_are_unset() {
        let spec = parse(
            r#"{"memory": {"limit": 0, "swap": 0, "reservation": 0}, "pids": {"limit": 0}, "devices": [],
                "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""},
                "blockIO": {"weight": 0}, "network": {"classID": 0}}"#,
        );
        assert_eq!(resources(&spec).unwrap(), Resources::default());
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (json, field) in [
            (
                r#"{"devices": [{"allow": true, "access": ""}]}"#,
                "devices[0].access",
            ),
            (
                r#"{"devices": [{"allow": true, "access": "x"}]}"#,
                "devices[0].access",
            ),
            (
                r#"{"devices": [{"allow": true, "type": "p", "access": "r"}]}"#,
                "devices[0].type",
            ),
            (
                r#"{"devices": [{"allow": true, "major": -2, "access": "r"}]}"#,
                "devices[0].major",
            ),
            (r#"{"memory": {"limit": -2}}"#, "memory.limit"),
            (r#"{"memory": {"limit": 5, "swap": 4}}"#, "memory.swap"),
            (r#"{"memory": {"swappiness": 101}}"#, "memory.swappiness"),
            (r#"{"cpu": {"idle": 2}}"#, "cpu.idle"),
            (r#"{"blockIO": {"weight": 9}}"#, "blockIO.weight"),
            (r#"{"rdma": {"a b": {}}}"#, "rdma"),
        ] {
            assert_eq!(resources(&parse(json)).unwrap_err().field, field, "{json}");
        }
    }

    #[test]
    fn creation_always_restricts_devices_and_an_update_does_not() {
        let limits = for_creation(None).unwrap();
        assert_eq!(limits.devices.unwrap(), DEFAULT_DEVICES);
        let spec = parse(r#"{"pids": {"limit": 5}}"#);
        assert_eq!(
            for_creation(Some(&spec)).unwrap().devices.unwrap(),
            DEFAULT_DEVICES
        );
        assert_eq!(for_update(&spec).unwrap().devices, None);
    }
}
