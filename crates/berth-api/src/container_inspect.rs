//! `GET /containers/{id}/json`.

use crate::container_config::ContainerConfig;
use crate::health::Health;
use crate::host_config::HostConfig;
use crate::image_inspect::OciDescriptor;
use crate::mount::MountPoint;
use crate::network::NetworkSettings;
use std::collections::BTreeMap;

wire! {
    /// Everything known of one container.
    pub struct ContainerInspect {
        id: String = "Id";
        /// RFC 3339 with nanoseconds.
        created: String = "Created";
        path: String = "Path";
        args: Vec<String> = "Args";
        state: ContainerState = "State";
        /// The image's id.
        image: String = "Image";
        resolv_conf_path: String = "ResolvConfPath";
        hostname_path: String = "HostnamePath";
        hosts_path: String = "HostsPath";
        log_path: String = "LogPath";
        /// With a leading slash.
        name: String = "Name";
        restart_count: i64 = "RestartCount";
        driver: String = "Driver";
        platform: String = "Platform";
        mount_label: String = "MountLabel";
        process_label: String = "ProcessLabel";
        app_armor_profile: String = "AppArmorProfile";
        /// None when no exec runs.
        exec_ids: Option<Vec<String>> = "ExecIDs";
        host_config: HostConfig = "HostConfig";
        graph_driver: DriverData = "GraphDriver";
        /// Bytes; with `size=1` only.
        size_rw: Option<i64> = "SizeRw" omitempty;
        /// Bytes; with `size=1` only.
        size_root_fs: Option<i64> = "SizeRootFs" omitempty;
        mounts: Vec<MountPoint> = "Mounts";
        config: ContainerConfig = "Config";
        network_settings: NetworkSettings = "NetworkSettings";
        image_manifest_descriptor: Option<OciDescriptor> = "ImageManifestDescriptor" omitempty;
    }

    /// Where in its life a container is.
    pub struct ContainerState {
        /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
        status: String = "Status";
        running: bool = "Running";
        paused: bool = "Paused";
        restarting: bool = "Restarting";
        oom_killed: bool = "OOMKilled";
        dead: bool = "Dead";
        pid: i64 = "Pid";
        exit_code: i64 = "ExitCode";
        error: String = "Error";
        /// RFC 3339 with nanoseconds; `0001-01-01T00:00:00Z` for never.
        started_at: String = "StartedAt";
        /// RFC 3339 with nanoseconds; `0001-01-01T00:00:00Z` for never.
        finished_at: String = "FinishedAt";
        health: Option<Health> = "Health" omitempty;
    }

    /// How the root file system is kept.
    pub struct DriverData {
        data: Option<BTreeMap<String, String>> = "Data";
        name: String = "Name";
    }
}
