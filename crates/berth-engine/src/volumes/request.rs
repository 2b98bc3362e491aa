//! What callers ask of volumes.

use indexmap::IndexMap;

/// A volume that shall be. Texts are as the caller gave them; the service checks them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeCreateRequest {
    /// Its name; empty for a random one.
    pub name: String,
    /// Its driver; empty for `local`.
    pub driver: String,
    /// Options of the driver.
    pub options: IndexMap<String, String>,
    /// Labels.
    pub labels: IndexMap<String, String>,
}

/// A volume that a new container mounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The volume; its name is empty for an anonymous one.
    pub(crate) volume: VolumeCreateRequest,
    /// Path in the container, whose content in the image an empty volume gets.
    pub(crate) target: String,
    /// Whether that content is copied.
    pub(crate) copy: bool,
    /// Whether it has to be there already: it is another container's.
    pub(crate) existing: bool,
    /// Whether the image must not have a file at the target (volumes that the image or `-v /path` declares).
    pub(crate) over_directory: bool,
}
