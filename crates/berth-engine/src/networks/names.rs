//! The files that say what members of networks are called; monitors answer from them.
//!
//! One writer at a time: what is written is the book as of then, so that a file never goes back, and many that join
//! at once share one writing.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use berth_net::dns::names::{Link, Member, NetworkNames};
use berth_types::NetworkId;
use std::net::IpAddr;

use super::book::Entry;
use crate::error::EngineError;

/// Where they are, and what is in them.
#[derive(Debug)]
pub(super) struct NamesFiles {
    root: PathBuf,
    /// Versions of the book that are written.
    written: Mutex<HashMap<NetworkId, u64>>,
}

/// The file of a network as the book has it.
pub(super) fn content(entry: &Entry) -> NetworkNames {
    let mut names = NetworkNames::new(entry.record.name.clone());
    names.subnets = entry
        .record
        .subnets
        .iter()
        .map(|s| s.subnet.to_string())
        .collect();
    names.members = entry
        .members()
        .map(|member| {
            let endpoint = &member.endpoint;
            Member {
                container: member.container.as_str().to_owned(),
                names: endpoint.names.clone(),
                ipv4: endpoint.ipv4.and_then(|p| match p.address() {
                    IpAddr::V4(a) => Some(a),
                    IpAddr::V6(_) => None,
                }),
                ipv6: endpoint.ipv6.and_then(|p| match p.address() {
                    IpAddr::V6(a) => Some(a),
                    IpAddr::V4(_) => None,
                }),
                links: endpoint
                    .links
                    .iter()
                    .map(|(alias, target)| Link {
                        name: alias.clone(),
                        target: target.clone(),
                    })
                    .collect(),
            }
        })
        .collect();
    names
}

impl NamesFiles {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            written: Mutex::default(),
        }
    }

    /// The file of a network.
    pub(super) fn path(&self, id: &NetworkId) -> PathBuf {
        self.root.join(id.as_str()).join("names")
    }

    /// Writes the file of a network, unless `version` of the book is written already. `read` reads the book.
    pub(super) fn write(
        &self,
        id: &NetworkId,
        version: Option<u64>,
        read: impl FnOnce() -> Option<(u64, NetworkNames)>,
    ) -> Result<(), EngineError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(version), Some(there)) = (version, written.get(id))
            && *there >= version
        {
            return Ok(());
        }
        let Some((version, names)) = read() else {
            return Ok(());
        };
        let path = self.path(id);
        let failed = |e: berth_sys::Error| {
            let kind = e.kind();
            EngineError::failed("write the names of a network's members", kind, e)
        };
        if !written.contains_key(id)
            && let Some(directory) = path.parent()
        {
            berth_sys::fs::create_dir_all_mode(directory, 0o700).map_err(failed)?;
        }
        names.write(&path).map_err(failed)?;
        written.insert(id.clone(), version);
        Ok(())
    }

    /// Removes the file of a network that is gone.
    pub(super) fn remove(&self, id: &NetworkId) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.remove(id);
        // Whatever stays is removed at the next start.
        let _ = berth_sys::fs::remove_dir_all(&self.root.join(id.as_str()));
    }

    /// Removes files of networks that nobody knows.
    pub(super) fn sweep(&self, known: impl Fn(&str) -> bool) {
        for name in berth_sys::fs::list(&self.root).unwrap_or_default() {
            if !name.to_str().is_some_and(&known) {
                let _ = berth_sys::fs::remove_dir_all(&self.root.join(name));
            }
        }
    }
}
