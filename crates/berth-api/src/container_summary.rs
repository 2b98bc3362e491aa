//! `GET /containers/json`.

use crate::image_inspect::OciDescriptor;
use crate::mount::MountPoint;
use crate::network::EndpointSettings;
use std::collections::BTreeMap;

wire! {
    /// One line of the list of containers.
    pub struct ContainerSummary {
        id: String = "Id";
        /// With a leading slash.
        names: Vec<String> = "Names";
        image: String = "Image";
        image_id: String = "ImageID";
        image_manifest_descriptor: Option<OciDescriptor> = "ImageManifestDescriptor" omitempty;
        command: String = "Command";
        /// Seconds since 1970.
        created: i64 = "Created";
        ports: Vec<PortSummary> = "Ports";
        /// Bytes; with `size=1` only.
        size_rw: i64 = "SizeRw" omitempty;
        /// Bytes; with `size=1` only.
        size_root_fs: i64 = "SizeRootFs" omitempty;
        labels: BTreeMap<String, String> = "Labels";
        state: String = "State";
        /// For people: `Up 3 minutes (healthy)`.
        status: String = "Status";
        host_config: ContainerSummaryHostConfig = "HostConfig";
        network_settings: NetworkSettingsSummary = "NetworkSettings";
        mounts: Vec<MountPoint> = "Mounts";
    }

    /// The part of the host configuration that is listed.
    pub struct ContainerSummaryHostConfig {
        network_mode: String = "NetworkMode" omitempty;
        annotations: BTreeMap<String, String> = "Annotations" omitempty;
    }

    /// The part of the network state that is listed.
    pub struct NetworkSettingsSummary {
        networks: BTreeMap<String, EndpointSettings> = "Networks";
    }

    /// An exposed or published port.
    pub struct PortSummary {
        ip: String = "IP" omitempty;
        private_port: u16 = "PrivatePort";
        public_port: u16 = "PublicPort" omitempty;
        kind: String = "Type";
    }
}
