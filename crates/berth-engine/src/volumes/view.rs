//! What readers see of volumes.

use std::path::PathBuf;
use std::sync::Arc;

use berth_types::ContainerId;

use super::record::VolumeRecord;

/// A volume at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeView {
    /// What is stored of it.
    pub record: Arc<VolumeRecord>,
    /// Where its content is on the host.
    pub mountpoint: PathBuf,
    /// Containers that mount it, running or not.
    pub users: Vec<ContainerId>,
}

/// A volume with what it occupies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeUsage {
    /// The volume.
    pub view: VolumeView,
    /// Bytes of its files; `None` where that is not known (not in a directory of ours).
    pub size: Option<u64>,
}

/// What a prune removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumesPruned {
    /// Their names.
    pub removed: Vec<String>,
    /// Bytes that came free.
    pub reclaimed: u64,
}
