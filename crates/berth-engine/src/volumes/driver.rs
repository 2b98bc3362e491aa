//! Who keeps the content of volumes: the trait, and what it gives.
//!
//! Two implementations: [`LocalDriver`](super::local::LocalDriver), and the one of the tests that fails at every
//! step in turn. Everything here blocks, is asked by one caller at a time for each volume, and may be asked again
//! after a crash: then it ends in the same state.

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use indexmap::IndexMap;

use super::record::VolumeRecord;
use crate::error::EngineError;

/// Where a container's mount of a volume comes from.
#[derive(Debug)]
pub struct MountSource {
    /// A path that is valid as long as `held` lives.
    pub path: PathBuf,
    /// Mount options of the volume itself.
    pub options: Vec<String>,
    /// With what is mounted below it.
    pub recursive: bool,
    /// What `path` stands for, where that is a descriptor.
    pub held: Option<OwnedFd>,
}

/// The root of a volume, opened to look into it or to fill it.
#[derive(Debug)]
pub struct OpenVolume {
    /// The root.
    pub root: OwnedFd,
    /// A directory on the same file system for what is not finished; the root itself where there is no other.
    pub staging: OwnedFd,
    /// Whether the staging directory is the root.
    pub staged_inside: bool,
}

/// What a crash left, by name of the volume.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Prepared, not published.
    pub prepared: Vec<String>,
    /// Concealed, not discarded.
    pub concealed: Vec<String>,
}

/// Keeps the content of volumes.
///
/// A volume comes in two steps, around the writing of its record: [`prepare`](Self::prepare) makes it where nobody
/// finds it, [`publish`](Self::publish) gives it its name. It goes in two: [`conceal`](Self::conceal) takes the name,
/// [`discard`](Self::discard) removes what is left. What a crash leaves between is told by
/// [`leftovers`](Self::leftovers).
pub trait VolumeDriver: Send + Sync + Debug + 'static {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Checks name and options of a new volume. Looks at nothing.
    ///
    /// # Errors
    /// For what makes no sense.
    fn check(&self, name: &str, options: &IndexMap<String, String>) -> Result<(), EngineError>;

    /// Makes an empty volume out of sight; one of an earlier attempt is made anew.
    ///
    /// # Errors
    /// When it cannot be made.
    fn prepare(&self, name: &str) -> Result<OwnedFd, EngineError>;

    /// Gives a prepared volume its name; one that has it already is fine.
    ///
    /// # Errors
    /// When the file system refuses.
    fn publish(&self, name: &str) -> Result<(), EngineError>;

    /// Takes a volume out of sight; one that is not there is fine.
    ///
    /// # Errors
    /// When the file system refuses, or it is still mounted.
    fn conceal(&self, name: &str) -> Result<(), EngineError>;

    /// Undoes `conceal`; one that is in sight is fine.
    ///
    /// # Errors
    /// When the file system refuses.
    fn reveal(&self, name: &str) -> Result<(), EngineError>;

    /// Removes what was prepared or concealed under this name.
    ///
    /// # Errors
    /// When the file system refuses.
    fn discard(&self, name: &str) -> Result<(), EngineError>;

    /// Gives a volume another name; one that has it already is fine.
    ///
    /// # Errors
    /// When the file system refuses.
    fn rename(&self, from: &str, to: &str) -> Result<(), EngineError>;

    /// Whether the volume's directory is there.
    fn exists(&self, name: &str) -> bool;

    /// What a crash left.
    ///
    /// # Errors
    /// When it cannot be listed.
    fn leftovers(&self) -> Result<Leftovers, EngineError>;

    /// Where the content is on the host.
    fn mountpoint(&self, name: &str) -> PathBuf;

    /// Whether the content is in a directory of ours, and not on a file system that has to be mounted.
    fn is_plain(&self, record: &VolumeRecord) -> bool;

    /// Makes the content reachable, mounting what has to be.
    ///
    /// # Errors
    /// When it cannot be mounted.
    fn mount(&self, record: &VolumeRecord) -> Result<MountSource, EngineError>;

    /// Undoes `mount`; not mounted is fine.
    ///
    /// # Errors
    /// When it cannot be unmounted.
    fn unmount(&self, record: &VolumeRecord) -> Result<(), EngineError>;

    /// Opens the root of what is mounted, or needs no mount.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn open(&self, record: &VolumeRecord) -> Result<OpenVolume, EngineError>;
}
