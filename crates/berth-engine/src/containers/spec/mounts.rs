//! Mounts as asked for: `-v` texts, `--mount` requests, and the resolved list of a container.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// A `-v` text that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Not `source:target[:options]`.
    #[error("invalid volume specification: '{0}'")]
    Syntax(String),
    /// The target is not absolute.
    #[error(
        "invalid volume specification: '{text}': invalid mount path: '{path}' mount path must be absolute"
    )]
    NotAbsolute {
        /// The whole text.
        text: String,
        /// The path in it.
        path: String,
    },
    /// The target is the root.
    #[error("invalid volume specification: '{0}': invalid specification: destination can't be '/'")]
    TargetIsRoot(String),
    /// An option is unknown, repeated or contradicts another.
    #[error("invalid mode: {0}")]
    Mode(String),
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A path of the host.
    #[default]
    Bind,
    /// A volume by name, or an anonymous one.
    Volume,
    /// Memory.
    Tmpfs,
    /// The content of an image.
    Image,
    /// Something Linux containers do not have (`npipe`, `cluster`).
    Other,
}

/// How mounts travel between the host and the container, mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Propagation {
    Private,
    RPrivate,
    Shared,
    RShared,
    Slave,
    RSlave,
}

impl Propagation {
    /// Reads Docker's spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "private" => Self::Private,
            "rprivate" => Self::RPrivate,
            "shared" => Self::Shared,
            "rshared" => Self::RShared,
            "slave" => Self::Slave,
            "rslave" => Self::RSlave,
            _ => return None,
        })
    }

    /// Docker's spelling, which is the OCI mount option too.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::RPrivate => "rprivate",
            Self::Shared => "shared",
            Self::RShared => "rshared",
            Self::Slave => "slave",
            Self::RSlave => "rslave",
        }
    }
}

/// Options of a tmpfs mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TmpfsOptions {
    /// Bytes; zero for the kernel's default.
    pub size: i64,
    /// Mode bits; zero for 1777.
    pub mode: u32,
    /// Further options, each a name or a name with a value.
    pub options: Vec<Vec<String>>,
}

/// A mount in the long form (`--mount`, `HostConfig.Mounts`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountRequest {
    /// What is mounted.
    pub kind: MountKind,
    /// The spelling of `kind` as sent, for errors.
    pub kind_text: String,
    /// Path on the host, name of the volume, or empty.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Whether nothing can be written.
    pub read_only: bool,
    /// Docker Desktop's hint; kept, never used.
    pub consistency: String,
    /// Bind: propagation.
    pub propagation: Option<Propagation>,
    /// Bind: whether sub-mounts stay behind.
    pub non_recursive: bool,
    /// Bind: whether a missing source is made.
    pub create_mountpoint: bool,
    /// Bind: whether `read_only` leaves sub-mounts writable.
    pub read_only_non_recursive: bool,
    /// Bind: whether it is an error when sub-mounts cannot be made read-only.
    pub read_only_force_recursive: bool,
    /// Bind: who owns on the host what the container's user writes.
    pub owner: Option<Owner>,
    /// Tmpfs options; `None` when none were sent.
    pub tmpfs: Option<TmpfsOptions>,
    /// Volume: whether the image's content is not copied.
    pub no_copy: bool,
    /// Volume: path within it.
    pub subpath: String,
    /// Volume: labels.
    pub labels: IndexMap<String, String>,
    /// Volume: driver, empty for `local`.
    pub driver: String,
    /// Volume: options of the driver.
    pub driver_options: IndexMap<String, String>,
}

/// A user and a group of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl std::str::FromStr for Owner {
    type Err = String;

    /// Reads `uid:gid`, both as numbers.
    fn from_str(text: &str) -> Result<Self, String> {
        let read = |part: &str| part.parse::<u32>().ok().filter(|id| *id != u32::MAX);
        let parts = text.split_once(':');
        parts
            .and_then(|(uid, gid)| {
                Some(Self {
                    uid: read(uid)?,
                    gid: read(gid)?,
                })
            })
            .ok_or_else(|| {
                let shown: String = text.chars().take(64).collect();
                format!("invalid owner {shown:?}: expected uid:gid in numbers")
            })
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// The volume of a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeMount {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// Path within it; empty for all of it.
    pub subpath: String,
    /// Whether nobody gave it a name: then it goes with the container, when that is asked for.
    pub own: bool,
}

/// One mount of a container, resolved; what inspect shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountPoint {
    /// What is mounted.
    pub kind: MountKind,
    /// Path on the host; empty for a tmpfs.
    pub source: String,
    /// Path in the container, normalised.
    pub target: String,
    /// The options as written.
    pub mode: String,
    /// Whether the container can write.
    pub writable: bool,
    /// Bind: propagation.
    pub propagation: Option<Propagation>,
    /// Bind: whether sub-mounts stay behind.
    pub non_recursive: bool,
    /// Read-only: whether sub-mounts become read-only too where the kernel can.
    pub recursive_read_only: bool,
    /// Read-only: whether it is an error when the kernel cannot.
    pub force_recursive_read_only: bool,
    /// Whether a missing source is made (a directory), as `-v` does.
    pub create_source: bool,
    /// Tmpfs: mount options, ready for the kernel.
    pub tmpfs_options: Vec<String>,
    /// Volume: which.
    pub volume: Option<VolumeMount>,
    /// Bind: who owns on the host what the container's user writes.
    pub owner: Option<Owner>,
}

/// A parsed `-v` text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Path on the host or name of a volume; `None` for an anonymous volume.
    pub source: Option<String>,
    /// Path in the container, normalised.
    pub target: String,
    /// Options as written.
    pub mode: String,
    /// Whether the container can write.
    pub writable: bool,
    /// Propagation, when asked.
    pub propagation: Option<Propagation>,
    /// Whether the image's content is not copied into a volume.
    pub no_copy: bool,
}

impl Bind {
    /// Reads `target`, `source:target` or `source:target:options`.
    ///
    /// # Errors
    /// With Docker's sentence.
    pub fn parse(text: &str) -> Result<Self, BindError> {
        let shown: String = text.chars().take(256).collect();
        let parts: Vec<&str> = text.split(':').collect();
        let syntax = || BindError::Syntax(shown.clone());
        let (source, target, mode) = match parts.as_slice() {
            [target] => (None, *target, ""),
            [target, mode]
                if !mode.is_empty()
                    && !mode.starts_with('/')
                    && target.starts_with('/')
                    && parse_mode(mode).is_some() =>
            {
                (None, *target, *mode)
            }
            [source, target] => (Some(*source), *target, ""),
            [source, target, mode] => (Some(*source), *target, *mode),
            _ => return Err(syntax()),
        };
        if target.is_empty() || source.is_some_and(str::is_empty) {
            return Err(syntax());
        }
        if !target.starts_with('/') {
            return Err(BindError::NotAbsolute {
                text: shown,
                path: target.to_owned(),
            });
        }
        let target = clean_path(target);
        if target == "/" {
            return Err(BindError::TargetIsRoot(shown));
        }
        let options = parse_mode(mode).ok_or_else(|| BindError::Mode(mode.to_owned()))?;
        let source = source.map(|s| {
            if s.starts_with('/') {
                clean_path(s)
            } else {
                s.to_owned()
            }
        });
        Ok(Self {
            source,
            target,
            mode: mode.to_owned(),
            writable: options.writable,
            propagation: options.propagation,
            no_copy: options.no_copy,
        })
    }

    /// Whether the source is a path of the host rather than a volume's name.
    #[must_use]
    pub fn is_path(&self) -> bool {
        self.source.as_deref().is_some_and(|s| s.starts_with('/'))
    }
}

struct Mode {
    writable: bool,
    propagation: Option<Propagation>,
    no_copy: bool,
}

/// At most one option of each family: access, label, propagation, copy, consistency.
fn parse_mode(mode: &str) -> Option<Mode> {
    let (mut access, mut label, mut propagation, mut copy, mut consistency) =
        (None, false, None, false, false);
    if !mode.is_empty() {
        for option in mode.split(',') {
            let fresh = match option {
                "rw" => access.replace(true).is_none(),
                "ro" => access.replace(false).is_none(),
                "z" | "Z" => !std::mem::replace(&mut label, true),
                "nocopy" => !std::mem::replace(&mut copy, true),
                "consistent" | "cached" | "delegated" => !std::mem::replace(&mut consistency, true),
                other => {
                    let wanted = Propagation::parse(other)?;
                    propagation.replace(wanted).is_none()
                }
            };
            if !fresh {
                return None;
            }
        }
    }
    Some(Mode {
        writable: access.unwrap_or(true),
        propagation,
        no_copy: copy,
    })
}

/// The path without `.`, `..`, doubled and trailing slashes, as Go's `path.Clean` makes it from an
/// absolute path.
#[must_use]
pub fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_are_read_as_docker_reads_them() {
        let bind = Bind::parse("/a/../b/:/c//d/:ro,rslave").expect("a bind");
        assert_eq!(bind.source.as_deref(), Some("/b"));
        assert_eq!(bind.target, "/c/d");
        assert!(!bind.writable);
        assert_eq!(bind.propagation, Some(Propagation::RSlave));
        assert!(Bind::parse("name:/x").is_ok_and(|b| !b.is_path()));
        assert!(Bind::parse("/x").is_ok_and(|b| b.source.is_none()));
        for bad in [
            "",
            ":",
            "/a:",
            ":/a",
            "/a:/",
            "/a:b",
            "/a:/b:rw,ro",
            "/a:/b:x",
            "a:/b:ro:z",
            "/a:/b:ro,ro",
        ] {
            assert!(Bind::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
