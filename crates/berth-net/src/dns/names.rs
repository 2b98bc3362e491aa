//! What the members of one network are called: the document `networks/<id>/names`.
//!
//! Owns the document and its file. The engine replaces the file atomically; monitors read it when its identity (inode,
//! change time, size) is not the one they know. Docker's rules decide what is in it: a member's name, its aliases and
//! its short id; links, which only the linking container sees.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use berth_sys::fs::Durability;
use berth_sys::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::limits;

/// The version of the document. Members are only ever added to it; a reader passes over what it does not know.
pub const VERSION: u32 = 1;

/// The members of one network and their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkNames {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// The network's name: `web.name` finds `web` in this network only.
    pub name: String,
    /// Subnets that belong to this network alone, as `address/length`: an address in them that no member has does not
    /// exist, so its reverse look-up is answered here and never forwarded. Empty for a network that is part of an
    /// outside one (macvlan, ipvlan).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    /// The members, in the order in which they joined.
    #[serde(default)]
    pub members: Vec<Member>,
}

/// One container in a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Member {
    /// The container's full identifier.
    pub container: String,
    /// What it is called: its name first (reverse look-ups answer with it), then aliases and short id. Several members may
    /// share a name.
    pub names: Vec<String>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
    /// Names that only this container sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}

/// A name that one container has for another (`--link target:name`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The name that is seen.
    pub name: String,
    /// What it stands for: a name in the same network, looked up anew each time.
    pub target: String,
}

impl NetworkNames {
    /// A network without members.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            version: VERSION,
            name: name.into(),
            subnets: Vec::new(),
            members: Vec::new(),
        }
    }

    /// Replaces the file at `path`: readers see all of the old or all of the new. Its directory must exist. Not synced: it
    /// lives beneath the exec root and is written anew after a reboot.
    ///
    /// # Errors
    /// When it cannot be written, or is larger than readers accept.
    pub fn write(&self, path: &Path) -> Result<()> {
        let attempt = || format!("write the names of network {}", self.name);
        let content =
            serde_json::to_vec(self).map_err(|error| Error::other(attempt(), error.to_string()))?;
        if u64::try_from(content.len()).unwrap_or(u64::MAX) > limits::DNS_DOCUMENT {
            return Err(Error::invalid(
                attempt(),
                format!(
                    "{} bytes are more than the limit of {}",
                    content.len(),
                    limits::DNS_DOCUMENT
                ),
            ));
        }
        berth_sys::fs::replace(path, &content, 0o600, Durability::Unsynced)
    }

    /// Reads the document at `path`.
    ///
    /// # Errors
    /// When there is none, or it has not the form.
    pub fn read(path: &Path) -> Result<Self> {
        let content = berth_sys::fs::read_bounded(path, limits::DNS_DOCUMENT)?;
        serde_json::from_slice(&content)
            .map_err(|error| Error::invalid(format!("read {}", path.display()), error.to_string()))
    }
}

/// What tells one content of a replaced file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    /// `None` when there is no such file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let stat = rustix::fs::stat(path).ok()?;
        let wide = |value: u64| i64::try_from(value).unwrap_or_default();
        Some(Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, wide(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, wide(stat.st_ctime_nsec)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_as_written_and_new_members_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("names");
        let mut names = NetworkNames::new("front");
        names.members.push(Member {
            container: "c1".into(),
            names: vec!["web".into(), "0123456789ab".into()],
            ipv4: Some(Ipv4Addr::new(10, 0, 0, 2)),
            ..Member::default()
        });
        names.write(&path).unwrap();
        assert_eq!(NetworkNames::read(&path).unwrap(), names);
        let before = Identity::of(&path);
        names.members.clear();
        names.write(&path).unwrap();
        assert_ne!(Identity::of(&path), before);
        let later = br#"{"version":2,"name":"n","members":[{"container":"c","names":[],"ipv4":null,"weight":3}],"zone":1}"#;
        berth_sys::fs::write(&path, later).unwrap();
        assert_eq!(NetworkNames::read(&path).unwrap().members.len(), 1);
        berth_sys::fs::write(&path, b"{").unwrap();
        assert!(NetworkNames::read(&path).is_err());
    }
}
