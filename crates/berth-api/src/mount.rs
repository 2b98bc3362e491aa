//! Mounts: as asked for (`Mount`) and as found (`MountPoint`).

use std::collections::BTreeMap;

wire! {
    /// A mount as asked for.
    pub struct Mount {
        /// `bind`, `volume`, `tmpfs`, `image`, `npipe` or `cluster`.
        kind: String = "Type" omitempty;
        source: String = "Source" omitempty;
        target: String = "Target" omitempty;
        read_only: bool = "ReadOnly" omitempty;
        consistency: String = "Consistency" omitempty;
        bind_options: Option<BindOptions> = "BindOptions" omitempty;
        volume_options: Option<VolumeOptions> = "VolumeOptions" omitempty;
        image_options: Option<ImageOptions> = "ImageOptions" omitempty;
        tmpfs_options: Option<TmpfsOptions> = "TmpfsOptions" omitempty;
    }

    /// Options of a `bind` mount.
    pub struct BindOptions {
        propagation: String = "Propagation" omitempty;
        non_recursive: bool = "NonRecursive" omitempty;
        create_mountpoint: bool = "CreateMountpoint" omitempty;
        read_only_non_recursive: bool = "ReadOnlyNonRecursive" omitempty;
        read_only_force_recursive: bool = "ReadOnlyForceRecursive" omitempty;
        /// `uid:gid` who owns on the host what the container's user writes. Only Berth's engine knows it.
        owner: String = "Owner" omitempty;
    }

    /// Options of a `volume` mount.
    pub struct VolumeOptions {
        no_copy: bool = "NoCopy" omitempty;
        labels: BTreeMap<String, String> = "Labels" omitempty;
        subpath: String = "Subpath" omitempty;
        driver_config: Option<MountDriver> = "DriverConfig" omitempty;
    }

    /// Options of an `image` mount.
    pub struct ImageOptions {
        subpath: String = "Subpath" omitempty;
    }

    /// A volume driver and its options.
    pub struct MountDriver {
        name: String = "Name" omitempty;
        options: BTreeMap<String, String> = "Options" omitempty;
    }

    /// Options of a `tmpfs` mount.
    pub struct TmpfsOptions {
        /// Bytes; 0 is unlimited.
        size_bytes: i64 = "SizeBytes" omitempty;
        /// Permission bits.
        mode: u32 = "Mode" omitempty;
        options: Vec<Vec<String>> = "Options" omitempty;
    }

    /// A mount as found on a container.
    pub struct MountPoint {
        kind: String = "Type" omitempty;
        name: String = "Name" omitempty;
        source: String = "Source";
        destination: String = "Destination";
        driver: String = "Driver" omitempty;
        mode: String = "Mode";
        rw: bool = "RW";
        propagation: String = "Propagation";
    }
}
