//! Volumes.

use std::collections::BTreeMap;

wire! {
    /// A volume.
    pub struct Volume {
        /// RFC 3339.
        created_at: String = "CreatedAt" omitempty;
        driver: String = "Driver";
        labels: Option<BTreeMap<String, String>> = "Labels";
        /// Where its content is on the host.
        mountpoint: String = "Mountpoint";
        name: String = "Name";
        options: Option<BTreeMap<String, String>> = "Options";
        scope: String = "Scope";
        /// What the driver tells of it.
        status: Option<BTreeMap<String, serde_json::Value>> = "Status" omitempty;
        usage_data: Option<VolumeUsageData> = "UsageData" omitempty;
    }

    /// What a volume occupies, and how many containers mount it; -1 where that is not known.
    pub struct VolumeUsageData {
        ref_count: i64 = "RefCount";
        size: i64 = "Size";
    }

    /// `GET /volumes`.
    pub struct VolumeListResponse {
        volumes: Vec<Volume> = "Volumes";
        warnings: Option<Vec<String>> = "Warnings";
    }

    /// `POST /volumes/create`.
    pub struct VolumeCreateRequest {
        /// Empty for a random one.
        name: String = "Name" omitempty;
        driver: String = "Driver" omitempty;
        driver_opts: Option<BTreeMap<String, String>> = "DriverOpts" omitempty;
        labels: Option<BTreeMap<String, String>> = "Labels" omitempty;
        /// Only volumes of a cluster have one.
        cluster_volume_spec: Option<BTreeMap<String, serde_json::Value>> = "ClusterVolumeSpec" omitempty;
    }

    /// `POST /volumes/prune`.
    pub struct VolumePruneReport {
        volumes_deleted: Option<Vec<String>> = "VolumesDeleted";
        space_reclaimed: u64 = "SpaceReclaimed";
    }

    /// `POST /berth/volumes/{name}/clone` and `…/snapshot`: Berth's own.
    pub struct VolumeCopyRequest {
        /// The new volume's name; empty for one made of the other's name and the time.
        name: String = "Name" omitempty;
        /// `null` for those of the other volume.
        labels: Option<BTreeMap<String, String>> = "Labels" omitempty;
        /// Copy although running containers can write to the volume.
        live: bool = "Live" omitempty;
        /// Freeze running containers that can write to the volume meanwhile.
        pause: bool = "Pause" omitempty;
    }
}
