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

    /// Whether its options say that it can only be read.
    #[must_use]
    pub fn is_read_only_by_option(&self) -> bool {
        let options = self.options.get("o").map_or("", String::as_str);
        let mut words = options.split(',').rev();
        words.find(|word| matches!(*word, "ro" | "rw")) == Some("ro")
    }

    /// Whether nobody gave it a name.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS_LABEL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_says_whether_it_is_read_only() {
        let mut record = VolumeRecord::new("v".to_owned(), crate::clock::now());
        assert!(!record.is_read_only_by_option());
        for (options, read_only) in [
            ("ro", true),
            ("addr=x,ro,soft", true),
            ("ro,rw", false),
            ("rw,ro", true),
            ("root=ro", false),
            ("", false),
        ] {
            record.options.insert("o".to_owned(), options.to_owned());
            assert_eq!(record.is_read_only_by_option(), read_only, "{options:?}");
        }
    }
}
