//! `GET /info`.

use std::collections::BTreeMap;

wire! {
    /// Facts about the engine and its host.
    pub struct SystemInfo {
        id: String = "ID";
        containers: i64 = "Containers";
        containers_running: i64 = "ContainersRunning";
        containers_paused: i64 = "ContainersPaused";
        containers_stopped: i64 = "ContainersStopped";
        images: i64 = "Images";
        driver: String = "Driver";
        driver_status: Vec<[String; 2]> = "DriverStatus";
        plugins: PluginsInfo = "Plugins";
        memory_limit: bool = "MemoryLimit";
        swap_limit: bool = "SwapLimit";
        kernel_memory: bool = "KernelMemory" omitempty;
        kernel_memory_tcp: bool = "KernelMemoryTCP" omitempty;
        cpu_cfs_period: bool = "CpuCfsPeriod";
        cpu_cfs_quota: bool = "CpuCfsQuota";
        cpu_shares: bool = "CPUShares";
        cpu_set: bool = "CPUSet";
        pids_limit: bool = "PidsLimit";
        ipv4_forwarding: bool = "IPv4Forwarding";
        debug: bool = "Debug";
        n_fd: i64 = "NFd";
        oom_kill_disable: bool = "OomKillDisable";
        n_goroutines: i64 = "NGoroutines";
        /// RFC 3339 with nanoseconds.
        system_time: String = "SystemTime";
        logging_driver: String = "LoggingDriver";
        cgroup_driver: String = "CgroupDriver";
        cgroup_version: String = "CgroupVersion" omitempty;
        n_events_listener: i64 = "NEventsListener";
        kernel_version: String = "KernelVersion";
        operating_system: String = "OperatingSystem";
        os_version: String = "OSVersion";
        os_type: String = "OSType";
        architecture: String = "Architecture";
        index_server_address: String = "IndexServerAddress";
        registry_config: Option<RegistryServiceConfig> = "RegistryConfig";
        ncpu: i64 = "NCPU";
        /// Bytes.
        mem_total: i64 = "MemTotal";
        generic_resources: Option<Vec<serde_json::Value>> = "GenericResources";
        docker_root_dir: String = "DockerRootDir";
        http_proxy: String = "HttpProxy";
        https_proxy: String = "HttpsProxy";
        no_proxy: String = "NoProxy";
        name: String = "Name";
        labels: Vec<String> = "Labels";
        experimental_build: bool = "ExperimentalBuild";
        server_version: String = "ServerVersion";
        runtimes: BTreeMap<String, RuntimeWithStatus> = "Runtimes";
        default_runtime: String = "DefaultRuntime";
        swarm: SwarmInfo = "Swarm";
        live_restore_enabled: bool = "LiveRestoreEnabled";
        isolation: String = "Isolation";
        init_binary: String = "InitBinary";
        containerd_commit: Commit = "ContainerdCommit";
        runc_commit: Commit = "RuncCommit";
        init_commit: Commit = "InitCommit";
        security_options: Vec<String> = "SecurityOptions";
        product_license: String = "ProductLicense" omitempty;
        cdi_spec_dirs: Vec<String> = "CDISpecDirs";
        /// Before API 1.50.
        bridge_nf_iptables: Option<bool> = "BridgeNfIptables" omitempty;
        /// Before API 1.50.
        bridge_nf_ip6tables: Option<bool> = "BridgeNfIp6tables" omitempty;
        warnings: Option<Vec<String>> = "Warnings";
    }

    /// Names of drivers and plugins.
    pub struct PluginsInfo {
        volume: Option<Vec<String>> = "Volume";
        network: Option<Vec<String>> = "Network";
        authorization: Option<Vec<String>> = "Authorization";
        log: Option<Vec<String>> = "Log";
    }

    /// How registries are reached.
    pub struct RegistryServiceConfig {
        insecure_registry_cidrs: Vec<String> = "InsecureRegistryCIDRs";
        index_configs: BTreeMap<String, IndexInfo> = "IndexConfigs";
        mirrors: Option<Vec<String>> = "Mirrors";
    }

    /// How one registry is reached.
    pub struct IndexInfo {
        name: String = "Name";
        mirrors: Vec<String> = "Mirrors";
        secure: bool = "Secure";
        official: bool = "Official";
    }

    /// A runtime a container can ask for.
    pub struct RuntimeWithStatus {
        path: String = "path" omitempty;
        args: Vec<String> = "runtimeArgs" omitempty;
        kind: String = "runtimeType" omitempty;
        options: BTreeMap<String, serde_json::Value> = "options" omitempty;
        status: BTreeMap<String, String> = "status" omitempty;
    }

    /// The cluster this engine is part of.
    pub struct SwarmInfo {
        node_id: String = "NodeID";
        node_addr: String = "NodeAddr";
        /// `inactive` without a cluster.
        local_node_state: String = "LocalNodeState";
        control_available: bool = "ControlAvailable";
        error: String = "Error";
        remote_managers: Option<Vec<serde_json::Value>> = "RemoteManagers";
    }

    /// The version of a component.
    pub struct Commit {
        id: String = "ID";
        /// Before API 1.49.
        expected: String = "Expected" omitempty;
    }
}
