//! Devices of the host that a container may use.

use serde::{Deserialize, Serialize};

/// A device node of the host shown in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// Path on the host.
    pub host: String,
    /// Path in the container; empty for the same.
    pub container: String,
    /// Letters of `rwm`.
    pub permissions: String,
}

/// One rule of the device cgroup, as `c 1:3 rwm`.
pub type DeviceCgroupRule = String;

/// A request to a device driver (GPUs); kept to be refused by name when no driver serves it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    /// Driver, empty for any.
    pub driver: String,
    /// How many; -1 for all.
    pub count: i64,
    /// Which, by the driver's own ids.
    pub device_ids: Vec<String>,
    /// Alternatives of capability lists.
    pub capabilities: Vec<Vec<String>>,
    /// Options of the driver.
    pub options: indexmap::IndexMap<String, String>,
}
