//! The configuration document of an image: the OCI image specification's config.md with the fields
//! that Docker adds to it (health check, on-build triggers, shell, stop time-out).
//!
//! Own types rather than `oci-spec`'s: these keep Docker's fields and every unknown one, so that a
//! document that goes through Berth keeps its meaning for others.

use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize};

/// Gives the default value where JSON says `null`, as Go's decoder does.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// How a container's health is probed. Durations are in nanoseconds; zero means "inherit".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `[]` inherits, `["NONE"]` disables, `["CMD", …]` executes, `["CMD-SHELL", text]` asks the shell.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub test: Vec<String>,
    /// Time between two probes.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time that one probe may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time after the start in which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between two probes within the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make the container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

// serde's `skip_serializing_if` hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// What an image says about running it (`config` of the document; `Config` in Docker's API).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// User (and group) to run as: `name`, `uid`, `name:group`, …; empty for root.
    #[serde(deserialize_with = "null_as_default")]
    pub user: String,
    /// `port/protocol` to an empty object.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "IndexMap::is_empty"
    )]
    pub exposed_ports: IndexMap<String, serde_json::Value>,
    /// `NAME=value` pairs.
    #[serde(deserialize_with = "null_as_default")]
    pub env: Vec<String>,
    /// Program and its fixed arguments; `None` when not set.
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments; `None` when not set.
    pub cmd: Option<Vec<String>>,
    /// Probe of the container's health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Whether arguments were already quoted for Windows; kept, never used.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub args_escaped: bool,
    /// Paths that should be volumes, each to an empty object.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "IndexMap::is_empty"
    )]
    pub volumes: IndexMap<String, serde_json::Value>,
    /// Directory to run in; empty for the root.
    #[serde(deserialize_with = "null_as_default")]
    pub working_dir: String,
    /// Labels.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "IndexMap::is_empty"
    )]
    pub labels: IndexMap<String, String>,
    /// Signal that asks the program to end.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// Seconds between that signal and SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Instructions for images built upon this one.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub on_build: Vec<String>,
    /// Shell for the shell form of instructions; `None` when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Fields that Berth does not know, kept as they are.
    #[serde(flatten)]
    pub other: IndexMap<String, serde_json::Value>,
}

/// One step of an image's making.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which instruction.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub created_by: String,
    /// By whom.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub author: String,
    /// Remark.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub comment: String,
    /// Whether the step made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// The layers of an image, lowest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Digest of each layer's uncompressed archive.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<crate::Digest>,
}

/// The whole document that an image's id is the digest of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDocument {
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub author: String,
    /// Architecture in Go's spelling.
    #[serde(default, deserialize_with = "null_as_default")]
    pub architecture: String,
    /// Variant of the architecture.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub variant: String,
    /// Operating system in Go's spelling.
    #[serde(default, deserialize_with = "null_as_default")]
    pub os: String,
    /// How to run it.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: ImageConfig,
    /// Its layers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub rootfs: RootFs,
    /// How it was made.
    #[serde(default, deserialize_with = "null_as_default")]
    pub history: Vec<HistoryEntry>,
    /// Fields that Berth does not know, kept as they are.
    #[serde(flatten)]
    pub other: IndexMap<String, serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_are_defaults_and_unknown_fields_stay() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"Entrypoint":null,
            "Healthcheck":{"Test":["CMD","true"],"Interval":1000},"X-Mine":7},"rootfs":{"type":"layers","diff_ids":null},
            "history":null,"moby.buildkit":{"a":1}}"#;
        let document: ImageDocument = serde_json::from_str(text).expect("a document");
        assert_eq!(document.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
        assert_eq!(document.config.entrypoint, None);
        assert_eq!(document.config.other["X-Mine"], 7);
        let again = serde_json::to_value(&document).expect("JSON");
        assert_eq!(again["moby.buildkit"]["a"], 1);
        assert_eq!(again["config"]["Healthcheck"]["Interval"], 1000);
    }
}
