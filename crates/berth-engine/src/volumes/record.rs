//! What of a volume is on disk.

use berth_types::Timestamp;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// The label of volumes that nobody gave a name, as Docker marks them.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// The driver of volumes in directories of the data root.
pub const LOCAL: &str = "local";

/// A volume as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Its name.
    pub name: String,
    /// Who keeps it.
    pub driver: String,
    /// When it was made.
    pub created: Timestamp,
    /// Options of the driver, as given.
    #[serde(default)]
    pub options: IndexMap<String, String>,
    /// Labels.
    #[serde(default)]
    pub labels: IndexMap<String, String>,
    /// Whether containers can only read it, as snapshots.
    #[serde(default)]
    pub read_only: bool,
    /// The volume it was copied from.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// The name before the latest renaming: where its directory is when a crash came between record and directory.
    #[serde(default)]
    pub former_name: Option<String>,
}

/// Where the content of a copy comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The name that the volume had then.
    pub volume: String,
    /// When it was copied.
    pub at: Timestamp,
}

impl VolumeRecord {
    /// A new volume without options.
    #[must_use]
    pub fn new(name: String, created: Timestamp) -> Self {
        Self {
            name,
            driver: LOCAL.to_owned(),
            created,
            options: IndexMap::new(),
            labels: IndexMap::new(),
            read_only: false,
            origin: None,
            former_name: None,
        }
    }

    /// Whether nobody gave it a name.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS_LABEL)
    }
}
