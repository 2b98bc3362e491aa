//! What is kept of a container between calls, and the status derived from it.
//!
//! ```text
//! STATE_ROOT/ID/
//! ├── intent.json   this module's record while the container is being made
//! ├── state.json    this module's record from then on
//! ├── config.json   the configuration the container was made with, without the seccomp rules
//! ├── seccomp.bpf   the compiled filter, for exec
//! ├── start.sock    what the waiting first process listens on, until it is started
//! └── gate          locked by the first process until it executes the program or ends
//! ```
//!
//! Invariant: the status never comes from a stored word. It is derived from the process (id and start time), the
//! lock and the freezer, so no crash can make it wrong.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use berth_sys::cgroup::{Cgroup, Location};
use berth_sys::fs::Durability;
use berth_sys::{fs, proc};
use oci_spec::runtime::Spec;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::error::RuntimeError;
use crate::limits;

/// The version of the specification whose state document we write.
pub const OCI_VERSION: &str = "1.2.1";

/// Status of a container (runtime.md, "State"; `paused` as every runtime has it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made.
    Creating,
    /// Made, the program not yet executed.
    Created,
    /// The program runs.
    Running,
    /// All processes are frozen.
    Paused,
    /// The program has ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// The record of one container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateRecord {
    /// Form of this record; grows when its meaning changes.
    pub schema: u32,
    /// Container id.
    pub id: String,
    /// First process, in the PID namespace of the runtime; 0 before it is made.
    pub pid: i32,
    /// Its start time, clock ticks after boot; 0 before it is made.
    pub start_time: u64,
    /// Directory of the bundle.
    pub bundle: PathBuf,
    /// The root file system's directory, for lists; empty for one given as a descriptor.
    pub rootfs: PathBuf,
    /// When it was made, RFC 3339.
    pub created: String,
    /// User who made it.
    pub owner: u32,
    /// Its control group.
    pub cgroup: Option<Location>,
    /// Where it is in resctrl, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<crate::intel_rdt::Made>,
    /// Annotations of the configuration.
    #[serde(default)]
    pub annotations: HashMap<String, String>,
}

/// The present form of [`StateRecord`].
pub(crate) const SCHEMA: u32 = 1;

/// The state document that hooks and `state` give out (runtime.md, "State").
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateDocument<'a> {
    /// Version of the specification.
    pub oci_version: &'a str,
    /// Container id.
    pub id: &'a str,
    /// Status.
    pub status: Status,
    /// First process; 0 when there is none.
    pub pid: i32,
    /// Directory of the bundle.
    pub bundle: &'a Path,
    /// Annotations of the configuration.
    pub annotations: &'a HashMap<String, String>,
}

impl StateRecord {
    /// The state document with this status.
    pub fn document(&self, status: Status) -> StateDocument<'_> {
        StateDocument {
            oci_version: OCI_VERSION,
            id: &self.id,
            status,
            pid: if status == Status::Stopped {
                0
            } else {
                self.pid
            },
            bundle: &self.bundle,
            annotations: &self.annotations,
        }
    }

    /// Whether the first process lives: same id, same start time, not only waiting to be reaped.
    pub fn is_alive(&self) -> bool {
        self.pid > 0
            && proc::stat(self.pid)
                .is_ok_and(|stat| stat.start_time == self.start_time && !stat.has_ended())
    }
}

/// Whether an id can be a directory name (and nothing else).
pub(crate) fn check_id(id: &str) -> Result<(), RuntimeError> {
    let invalid = |reason| RuntimeError::InvalidId {
        id: id.to_owned(),
        reason,
    };
    if id.is_empty() || id.len() > limits::ID_LENGTH {
        return Err(invalid("it must have 1 to 1024 characters"));
    }
    if id == "." || id == ".." {
        return Err(invalid("it must not be . or .."));
    }
    if !id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'.'))
    {
        return Err(invalid("only letters, digits and _ + - . are allowed"));
    }
    Ok(())
}

/// The directory of one container's state.
#[derive(Debug, Clone)]
pub(crate) struct StateDirectory {
    path: PathBuf,
}

impl StateDirectory {
    /// Names the directory; nothing is touched.
    pub(crate) fn new(state_root: &Path, id: &str) -> Result<Self, RuntimeError> {
        check_id(id)?;
        Ok(Self {
            path: state_root.join(id),
        })
    }

    /// Makes the directory; one container of an id at a time can have it.
    pub(crate) fn create(&self, id: &str) -> Result<(), RuntimeError> {
        if let Some(root) = self.path.parent()
            && !root.is_dir()
        {
            fs::create_dir_all_mode(root, 0o711)?;
        }
        match fs::create_dir(&self.path, 0o711) {
            Err(error) if error.is_already_exists() => {
                Err(RuntimeError::Exists { id: id.to_owned() })
            }
            other => Ok(other?),
        }
    }

    /// The socket the first process waits on.
    pub(crate) fn start_socket(&self) -> PathBuf {
        self.path.join("start.sock")
    }

    /// The file the first process keeps locked.
    pub(crate) fn gate(&self) -> PathBuf {
        self.path.join("gate")
    }

    /// The compiled seccomp filter.
    pub(crate) fn filter(&self) -> PathBuf {
        self.path.join("seccomp.bpf")
    }

    /// Writes the record of a container that is about to be made, so that one whose creator dies can be removed.
    ///
    /// A file of its own and not an earlier state.json: replacing a file makes some file systems write it to disk.
    pub(crate) fn save_intent(&self, record: &StateRecord) -> Result<(), RuntimeError> {
        self.write("intent.json", record)
    }

    /// Writes the record of a container that is made.
    pub(crate) fn save(&self, record: &StateRecord) -> Result<(), RuntimeError> {
        self.write("state.json", record)?;
        Ok(fs::remove_file(&self.path.join("intent.json"))?)
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), RuntimeError> {
        let path = self.path.join(name);
        let bytes = encode(value, &path)?;
        Ok(fs::replace(&path, &bytes, 0o600, Durability::Unsynced)?)
    }

    /// Reads the record. `None` when the container does not exist, or was abandoned before its first record.
    pub(crate) fn load(&self) -> Result<Option<StateRecord>, RuntimeError> {
        match load_json(&self.path.join("state.json"))? {
            Some(record) => Ok(Some(record)),
            None => load_json(&self.path.join("intent.json")),
        }
    }

    /// Writes the configuration.
    pub(crate) fn save_spec(&self, spec: &Spec) -> Result<(), RuntimeError> {
        self.write("config.json", spec)
    }

    /// Reads the configuration.
    pub(crate) fn load_spec(&self) -> Result<Option<Spec>, RuntimeError> {
        load_json(&self.path.join("config.json"))
    }

    /// Removes the directory with all it holds.
    pub(crate) fn remove(&self) -> Result<(), RuntimeError> {
        Ok(fs::remove_dir_all(&self.path)?)
    }

    /// Makes the gate and locks it; the lock lasts as long as a copy of the descriptor.
    pub(crate) fn lock_gate(&self) -> Result<OwnedFd, RuntimeError> {
        let path = self.gate();
        let file = fs::open(
            &path,
            std::fs::OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true),
        )?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| berth_sys::Error::new(format!("lock {}", path.display()), errno))?;
        Ok(OwnedFd::from(file))
    }

    /// Waits until the first process has executed the program or ended: moments after it has said so, since the
    /// kernel closes the descriptors of an executing process one after the other.
    pub(crate) fn wait_for_gate(&self) -> Result<(), RuntimeError> {
        let path = self.gate();
        let file = fs::open(&path, std::fs::OpenOptions::new().read(true))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockShared))
            .map_err(|errno| berth_sys::Error::new(format!("lock {}", path.display()), errno))?;
        Ok(())
    }

    /// Whether the first process still waits before the program.
    pub(crate) fn is_gate_locked(&self) -> bool {
        let Ok(file) = fs::open(&self.gate(), std::fs::OpenOptions::new().read(true)) else {
            return false;
        };
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)
            == Err(rustix::io::Errno::WOULDBLOCK)
    }

    /// The status of the container with this record.
    /// `group` is its control group, where the caller has that open.
    pub(crate) fn status(&self, record: &StateRecord, group: Option<&Cgroup>) -> Status {
        if record.pid == 0 {
            // The creator holds the lock while it works; one that died leaves nothing to run.
            return if self.is_gate_locked() {
                Status::Creating
            } else {
                Status::Stopped
            };
        }
        if !record.is_alive() {
            return Status::Stopped;
        }
        if self.is_gate_locked() {
            return Status::Created;
        }
        let frozen = match group {
            Some(group) => group.is_frozen().ok(),
            None => record
                .cgroup
                .as_ref()
                .and_then(|location| Cgroup::open(location).ok())
                .and_then(|cgroup| cgroup.is_frozen().ok()),
        };
        if frozen == Some(true) {
            Status::Paused
        } else {
            Status::Running
        }
    }
}

fn encode<T: Serialize>(value: &T, path: &Path) -> Result<Vec<u8>, RuntimeError> {
    serde_json::to_vec(value).map_err(|source| RuntimeError::Parse {
        path: path.to_owned(),
        source,
    })
}

/// Reads a JSON document of bounded size; `None` when there is no file.
pub(crate) fn load_json<T: serde::de::DeserializeOwned>(
    path: &Path,
) -> Result<Option<T>, RuntimeError> {
    let bytes = match fs::read_bounded(path, limits::CONFIGURATION_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| RuntimeError::Parse {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_directory_names_and_nothing_else() {
        for good in ["a", "0123abc", "a.b-c_d+e"] {
            check_id(good).unwrap();
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(1025)] {
            check_id(bad).unwrap_err();
        }
    }

    #[test]
    fn the_lock_tells_created_from_running() {
        let root = tempfile::tempdir().unwrap();
        let directory = StateDirectory::new(root.path(), "one").unwrap();
        directory.create("one").unwrap();
        assert!(matches!(
            directory.create("one"),
            Err(RuntimeError::Exists { .. })
        ));
        let pid = std::process::id() as i32;
        let mut record = StateRecord {
            schema: SCHEMA,
            id: "one".into(),
            pid,
            start_time: proc::stat(pid).unwrap().start_time,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: String::new(),
            owner: 0,
            cgroup: None,
            intel_rdt: None,
            annotations: HashMap::new(),
        };
        directory.save(&record).unwrap();
        assert_eq!(directory.load().unwrap().unwrap().pid, pid);
        let lock = directory.lock_gate().unwrap();
        assert_eq!(directory.status(&record, None), Status::Created);
        drop(lock);
        assert_eq!(directory.status(&record, None), Status::Running);
        record.start_time += 1;
        assert_eq!(directory.status(&record, None), Status::Stopped);
        directory.remove().unwrap();
        assert!(directory.load().unwrap().is_none());
    }
}
