//! `HostConfig`: what a container asks of its host.

use crate::container_config::StrSlice;
use crate::mount::Mount;
use std::collections::BTreeMap;

/// Published ports: `<port>/<protocol>` to host addresses. A port without bindings has `null`.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

wire! {
    /// One host address a container port is published on.
    pub struct PortBinding {
        host_ip: String = "HostIp";
        /// Decimal port or range; empty lets the engine choose.
        host_port: String = "HostPort";
    }

    /// The log driver of a container.
    pub struct LogConfig {
        kind: String = "Type";
        config: Option<BTreeMap<String, String>> = "Config";
    }

    /// What happens after a container's program ends.
    pub struct RestartPolicy {
        /// ``, `no`, `always`, `unless-stopped` or `on-failure`.
        name: String = "Name";
        maximum_retry_count: i64 = "MaximumRetryCount";
    }

    /// A device node shared with a container.
    pub struct DeviceMapping {
        path_on_host: String = "PathOnHost";
        path_in_container: String = "PathInContainer";
        /// Some of `rwm`.
        cgroup_permissions: String = "CgroupPermissions";
    }

    /// A request for devices of a driver (GPUs, CDI).
    pub struct DeviceRequest {
        driver: String = "Driver";
        /// -1 for all.
        count: i64 = "Count";
        device_ids: Option<Vec<String>> = "DeviceIDs";
        capabilities: Option<Vec<Vec<String>>> = "Capabilities";
        options: Option<BTreeMap<String, String>> = "Options";
    }

    /// Relative block I/O weight of one device.
    pub struct WeightDevice {
        path: String = "Path";
        weight: u16 = "Weight";
    }

    /// Block I/O rate of one device.
    pub struct ThrottleDevice {
        path: String = "Path";
        /// Bytes or operations per second.
        rate: u64 = "Rate";
    }

    /// A resource limit of the container's processes.
    pub struct Ulimit {
        name: String = "Name";
        hard: i64 = "Hard";
        soft: i64 = "Soft";
    }

    /// Limits of a container; the part of [`HostConfig`] that can be updated.
    pub struct Resources {
        cpu_shares: i64 = "CpuShares";
        /// Bytes; 0 is unlimited.
        memory: i64 = "Memory";
        /// Units of 10⁻⁹ CPUs.
        nano_cpus: i64 = "NanoCpus";
        cgroup_parent: String = "CgroupParent";
        blkio_weight: u16 = "BlkioWeight";
        blkio_weight_device: Option<Vec<WeightDevice>> = "BlkioWeightDevice";
        blkio_device_read_bps: Option<Vec<ThrottleDevice>> = "BlkioDeviceReadBps";
        blkio_device_write_bps: Option<Vec<ThrottleDevice>> = "BlkioDeviceWriteBps";
        blkio_device_read_iops: Option<Vec<ThrottleDevice>> = "BlkioDeviceReadIOps";
        blkio_device_write_iops: Option<Vec<ThrottleDevice>> = "BlkioDeviceWriteIOps";
        /// Microseconds.
        cpu_period: i64 = "CpuPeriod";
        /// Microseconds per period.
        cpu_quota: i64 = "CpuQuota";
        /// Microseconds.
        cpu_realtime_period: i64 = "CpuRealtimePeriod";
        /// Microseconds.
        cpu_realtime_runtime: i64 = "CpuRealtimeRuntime";
        cpuset_cpus: String = "CpusetCpus";
        cpuset_mems: String = "CpusetMems";
        devices: Option<Vec<DeviceMapping>> = "Devices";
        device_cgroup_rules: Option<Vec<String>> = "DeviceCgroupRules";
        device_requests: Option<Vec<DeviceRequest>> = "DeviceRequests";
        /// Bytes; accepted before API 1.42 only.
        kernel_memory: i64 = "KernelMemory" omitempty;
        /// Bytes.
        kernel_memory_tcp: i64 = "KernelMemoryTCP" omitempty;
        /// Bytes.
        memory_reservation: i64 = "MemoryReservation";
        /// Memory and swap together in bytes; -1 is unlimited swap.
        memory_swap: i64 = "MemorySwap";
        memory_swappiness: Option<i64> = "MemorySwappiness";
        oom_kill_disable: Option<bool> = "OomKillDisable";
        /// None leaves the limit as it is; 0 or less is unlimited.
        pids_limit: Option<i64> = "PidsLimit";
        ulimits: Option<Vec<Ulimit>> = "Ulimits";
        cpu_count: i64 = "CpuCount";
        cpu_percent: i64 = "CpuPercent";
        io_maximum_iops: u64 = "IOMaximumIOps";
        io_maximum_bandwidth: u64 = "IOMaximumBandwidth";
    }

    /// What a container asks of its host.
    pub struct HostConfig {
        binds: Option<Vec<String>> = "Binds";
        container_id_file: String = "ContainerIDFile";
        log_config: LogConfig = "LogConfig";
        network_mode: String = "NetworkMode";
        port_bindings: Option<PortMap> = "PortBindings";
        restart_policy: RestartPolicy = "RestartPolicy";
        auto_remove: bool = "AutoRemove";
        volume_driver: String = "VolumeDriver";
        volumes_from: Option<Vec<String>> = "VolumesFrom";
        /// Height, width.
        console_size: [u32; 2] = "ConsoleSize";
        annotations: BTreeMap<String, String> = "Annotations" omitempty;
        cap_add: Option<StrSlice> = "CapAdd";
        cap_drop: Option<StrSlice> = "CapDrop";
        cgroupns_mode: String = "CgroupnsMode";
        dns: Option<Vec<String>> = "Dns";
        dns_options: Option<Vec<String>> = "DnsOptions";
        dns_search: Option<Vec<String>> = "DnsSearch";
        extra_hosts: Option<Vec<String>> = "ExtraHosts";
        group_add: Option<Vec<String>> = "GroupAdd";
        ipc_mode: String = "IpcMode";
        cgroup: String = "Cgroup";
        links: Option<Vec<String>> = "Links";
        oom_score_adj: i64 = "OomScoreAdj";
        pid_mode: String = "PidMode";
        privileged: bool = "Privileged";
        publish_all_ports: bool = "PublishAllPorts";
        readonly_rootfs: bool = "ReadonlyRootfs";
        security_opt: Option<Vec<String>> = "SecurityOpt";
        storage_opt: BTreeMap<String, String> = "StorageOpt" omitempty;
        /// Path inside the container to mount options.
        tmpfs: BTreeMap<String, String> = "Tmpfs" omitempty;
        uts_mode: String = "UTSMode";
        userns_mode: String = "UsernsMode";
        /// Bytes.
        shm_size: i64 = "ShmSize";
        sysctls: BTreeMap<String, String> = "Sysctls" omitempty;
        runtime: String = "Runtime" omitempty;
        isolation: String = "Isolation";
        resources: Resources = "" embed;
        mounts: Vec<Mount> = "Mounts" omitempty;
        /// None asks for the default list, an empty list for none.
        masked_paths: Option<Vec<String>> = "MaskedPaths";
        /// None asks for the default list, an empty list for none.
        readonly_paths: Option<Vec<String>> = "ReadonlyPaths";
        init: Option<bool> = "Init" omitempty;
    }
}
