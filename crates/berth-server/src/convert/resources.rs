//! Limits and restart policy, both ways.

use super::{none_if_empty, sorted};
use berth_api::{
    ContainerUpdateBody, DeviceMapping, DeviceRequest, Resources, RestartPolicy, ThrottleDevice,
    Ulimit, WeightDevice,
};
use berth_engine::containers::requests::UpdateRequest;
use berth_engine::containers::spec::{self, DeviceRate, DeviceWeight};

/// None for the wire's zero, which means "not asked".
fn asked<T: PartialEq + Default>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// Wire to engine.
///
/// # Errors
/// With a sentence for the client.
pub(crate) fn to_engine(resources: Resources) -> Result<spec::Resources, String> {
    if resources.io_maximum_bandwidth != 0 {
        return Err("invalid QoS settings: linux does not support Maximum IO Bandwidth".to_owned());
    }
    if resources.io_maximum_iops != 0 {
        return Err("invalid QoS settings: linux does not support Maximum IO IOps".to_owned());
    }
    if resources.cpu_count != 0 || resources.cpu_percent != 0 {
        return Err(
            "invalid CPU settings: linux does not support CpuCount and CpuPercent; use NanoCpus"
                .to_owned(),
        );
    }
    let rates = |list: Option<Vec<ThrottleDevice>>| {
        let list = list.unwrap_or_default().into_iter();
        list.map(|device| DeviceRate {
            path: device.path,
            rate: device.rate,
        })
        .collect()
    };
    Ok(spec::Resources {
        cpu_shares: asked(resources.cpu_shares),
        nano_cpus: asked(resources.nano_cpus),
        cpu_period: asked(resources.cpu_period),
        cpu_quota: asked(resources.cpu_quota),
        cpu_realtime_period: asked(resources.cpu_realtime_period),
        cpu_realtime_runtime: asked(resources.cpu_realtime_runtime),
        cpuset_cpus: resources.cpuset_cpus,
        cpuset_mems: resources.cpuset_mems,
        memory: asked(resources.memory),
        memory_swap: asked(resources.memory_swap),
        memory_reservation: asked(resources.memory_reservation),
        memory_swappiness: resources.memory_swappiness,
        oom_kill_disable: resources.oom_kill_disable,
        pids_limit: resources.pids_limit,
        blkio_weight: asked(resources.blkio_weight),
        blkio_weight_device: resources
            .blkio_weight_device
            .unwrap_or_default()
            .into_iter()
            .map(|device| DeviceWeight {
                path: device.path,
                weight: device.weight,
            })
            .collect(),
        blkio_read_bps: rates(resources.blkio_device_read_bps),
        blkio_write_bps: rates(resources.blkio_device_write_bps),
        blkio_read_iops: rates(resources.blkio_device_read_iops),
        blkio_write_iops: rates(resources.blkio_device_write_iops),
        ulimits: resources
            .ulimits
            .unwrap_or_default()
            .into_iter()
            .map(|limit| spec::Ulimit {
                name: limit.name,
                soft: limit.soft,
                hard: limit.hard,
            })
            .collect(),
        cgroup_parent: resources.cgroup_parent,
        devices: resources
            .devices
            .unwrap_or_default()
            .into_iter()
            .map(|device| spec::DeviceMapping {
                host: device.path_on_host,
                container: device.path_in_container,
                permissions: device.cgroup_permissions,
            })
            .collect(),
        device_cgroup_rules: resources.device_cgroup_rules.unwrap_or_default(),
        device_requests: resources
            .device_requests
            .unwrap_or_default()
            .into_iter()
            .map(|request| spec::DeviceRequest {
                driver: request.driver,
                count: request.count,
                device_ids: request.device_ids.unwrap_or_default(),
                capabilities: request.capabilities.unwrap_or_default(),
                options: request.options.unwrap_or_default().into_iter().collect(),
            })
            .collect(),
    })
}

/// Engine to wire.
pub(crate) fn from_engine(resources: &spec::Resources) -> Resources {
    let rates = |list: &[DeviceRate]| {
        let list = list.iter();
        Some(
            list.map(|device| ThrottleDevice {
                path: device.path.clone(),
                rate: device.rate,
            })
            .collect(),
        )
    };
    Resources {
        cpu_shares: resources.cpu_shares.unwrap_or_default(),
        memory: resources.memory.unwrap_or_default(),
        nano_cpus: resources.nano_cpus.unwrap_or_default(),
        cgroup_parent: resources.cgroup_parent.clone(),
        blkio_weight: resources.blkio_weight.unwrap_or_default(),
        blkio_weight_device: Some(
            resources
                .blkio_weight_device
                .iter()
                .map(|device| WeightDevice {
                    path: device.path.clone(),
                    weight: device.weight,
                })
                .collect(),
        ),
        blkio_device_read_bps: rates(&resources.blkio_read_bps),
        blkio_device_write_bps: rates(&resources.blkio_write_bps),
        blkio_device_read_iops: rates(&resources.blkio_read_iops),
        blkio_device_write_iops: rates(&resources.blkio_write_iops),
        cpu_period: resources.cpu_period.unwrap_or_default(),
        cpu_quota: resources.cpu_quota.unwrap_or_default(),
        cpu_realtime_period: resources.cpu_realtime_period.unwrap_or_default(),
        cpu_realtime_runtime: resources.cpu_realtime_runtime.unwrap_or_default(),
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        devices: Some(
            resources
                .devices
                .iter()
                .map(|device| DeviceMapping {
                    path_on_host: device.host.clone(),
                    path_in_container: device.container.clone(),
                    cgroup_permissions: device.permissions.clone(),
                })
                .collect(),
        ),
        device_cgroup_rules: none_if_empty(&resources.device_cgroup_rules),
        device_requests: (!resources.device_requests.is_empty()).then(|| {
            resources
                .device_requests
                .iter()
                .map(|request| DeviceRequest {
                    driver: request.driver.clone(),
                    count: request.count,
                    device_ids: none_if_empty(&request.device_ids),
                    capabilities: none_if_empty(&request.capabilities),
                    options: Some(sorted(&request.options)),
                })
                .collect()
        }),
        memory_reservation: resources.memory_reservation.unwrap_or_default(),
        memory_swap: resources.memory_swap.unwrap_or_default(),
        memory_swappiness: resources.memory_swappiness,
        oom_kill_disable: resources.oom_kill_disable,
        pids_limit: resources.pids_limit,
        ulimits: Some(
            resources
                .ulimits
                .iter()
                .map(|limit| Ulimit {
                    name: limit.name.clone(),
                    hard: limit.hard,
                    soft: limit.soft,
                })
                .collect(),
        ),
        ..Resources::default()
    }
}

/// A restart policy, wire to engine.
pub(crate) fn restart_policy(policy: &RestartPolicy) -> Result<spec::RestartPolicy, String> {
    spec::RestartPolicy::from_parts(&policy.name, policy.maximum_retry_count)
}

/// A restart policy, engine to wire.
pub(crate) fn restart_policy_from_engine(policy: spec::RestartPolicy) -> RestartPolicy {
    RestartPolicy {
        name: policy.name().to_owned(),
        maximum_retry_count: i64::from(policy.retries()),
    }
}

/// An update. A policy without a name is kept as it is.
///
/// # Errors
/// With a sentence for the client.
pub(crate) fn update(body: ContainerUpdateBody) -> Result<UpdateRequest, String> {
    let restart = match body.restart_policy.name.as_str() {
        "" => None,
        _ => Some(restart_policy(&body.restart_policy)?),
    };
    let mut resources = to_engine(body.resources)?;
    // Every number that is not positive means "no limit".
    resources.pids_limit = resources.pids_limit.map(|limit| limit.max(0));
    Ok(UpdateRequest { resources, restart })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_round_trip() {
        let text = r#"{"CpuShares":5,"Memory":1048576,"NanoCpus":7,"CgroupParent":"/x","BlkioWeight":300,
            "BlkioDeviceReadBps":[{"Path":"/dev/sda","Rate":9}],"MemorySwap":-1,"MemorySwappiness":0,
            "OomKillDisable":true,"PidsLimit":10,"Ulimits":[{"Name":"nofile","Hard":2,"Soft":1}],
            "Devices":[{"PathOnHost":"/dev/a","PathInContainer":"/dev/b","CgroupPermissions":"r"}],
            "DeviceRequests":[{"Driver":"d","Count":-1,"DeviceIDs":null,"Capabilities":[["gpu"]],"Options":{}}]}"#;
        let wire: Resources = serde_json::from_str(text).unwrap();
        let back = from_engine(&to_engine(wire.clone()).unwrap());
        let normal = from_engine(&to_engine(back.clone()).unwrap());
        assert_eq!(back, normal);
        assert_eq!(
            (back.memory, back.memory_swap, back.pids_limit),
            (1_048_576, -1, Some(10))
        );
        assert_eq!(back.device_requests, wire.device_requests);
        assert_eq!(back.ulimits, wire.ulimits);
    }

    #[test]
    fn what_linux_does_not_have_is_refused_and_what_is_not_named_is_kept() {
        let bad = Resources {
            io_maximum_iops: 1,
            ..Resources::default()
        };
        assert!(
            to_engine(bad)
                .unwrap_err()
                .contains("linux does not support")
        );
        let update = update(ContainerUpdateBody::default()).unwrap();
        assert_eq!(update, UpdateRequest::default());
    }
}
