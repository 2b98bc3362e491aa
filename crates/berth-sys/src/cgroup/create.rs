//! Making and opening the directories of a group.

use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;

use super::directory::Directory;
use super::{Cgroup, CgroupError, Group, Location};

impl Cgroup {
    /// Makes the directories of a group and whatever lies above them. Directories that exist are taken over.
    ///
    /// On version 1 the cpuset is inherited from the parent (a group without processors takes no process). On
    /// version 2 every controller is handed down the path (in a hybrid layout only when [`Cgroup::apply`] needs one);
    /// a level that holds processes itself hands none down, and [`Cgroup::apply`] tells so.
    ///
    /// # Errors
    /// When a directory cannot be made; those made by this call are removed again.
    pub fn create(location: &Location) -> Result<Self, CgroupError> {
        let mut made = Made::default();
        let result = Self::create_all(location, &mut made);
        if result.is_err() {
            made.undo();
        }
        result
    }

    fn create_all(location: &Location, made: &mut Made) -> Result<Self, CgroupError> {
        let mut v1 = Vec::with_capacity(location.v1.len());
        for (names, path) in &location.v1 {
            made.directory(path)?;
            let directory = Directory::open(path)?.ok_or_else(|| vanished(path))?;
            let group = Group {
                names: names.clone(),
                directory,
            };
            if group.serves("cpuset") {
                inherit_cpuset(&group.directory, path)?;
            }
            v1.push(group);
        }
        let unified = match &location.unified {
            None => None,
            Some(path) => {
                made.directory(path)?;
                let directory = Directory::open(path)?.ok_or_else(|| vanished(path))?;
                if !location
                    .v1
                    .iter()
                    .any(|(names, _)| !names.starts_with("name="))
                {
                    hand_down_controllers(path, None)?;
                }
                make_usable(&directory)?;
                Some(directory)
            }
        };
        if v1.is_empty() && unified.is_none() {
            return Err(CgroupError::NoHierarchy(
                "the location names no directory".to_owned(),
            ));
        }
        Ok(Self {
            location: location.clone(),
            v1,
            unified,
        })
    }

    /// Opens a group that exists. Hierarchies in which it is missing are left out.
    ///
    /// # Errors
    /// `NotFound` when it exists in no hierarchy.
    pub fn open(location: &Location) -> Result<Self, CgroupError> {
        let mut v1 = Vec::with_capacity(location.v1.len());
        for (names, path) in &location.v1 {
            if let Some(directory) = Directory::open(path)? {
                v1.push(Group {
                    names: names.clone(),
                    directory,
                });
            }
        }
        let unified = match &location.unified {
            Some(path) => Directory::open(path)?,
            None => None,
        };
        if v1.is_empty() && unified.is_none() {
            let path = location
                .unified
                .clone()
                .or_else(|| location.v1.first().map(|(_, path)| path.clone()));
            return Err(vanished(&path.unwrap_or_default()));
        }
        Ok(Self {
            location: location.clone(),
            v1,
            unified,
        })
    }
}

/// The directories that did not exist before, in the order they were made.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a directory and the missing ones above it.
    fn directory(&mut self, path: &Path) -> Result<(), CgroupError> {
        match self.single(path) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(|errno| not_made(path, errno)),
        }
        // From the deepest ancestor there is, downwards.
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|level| !level.exists())
            .collect();
        for level in missing.iter().rev() {
            self.single(level).map_err(|errno| not_made(level, errno))?;
        }
        Ok(())
    }

    fn single(&mut self, path: &Path) -> Result<(), Errno> {
        match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                self.0.push(path.to_path_buf());
                Ok(())
            }
            Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Removes them again; what somebody else uses by now stays.
    fn undo(self) {
        for path in self.0.iter().rev() {
            let _ = rustix::fs::rmdir(path);
        }
    }
}

fn not_made(path: &Path, errno: Errno) -> CgroupError {
    CgroupError::Io {
        attempt: "create control group",
        path: path.to_path_buf(),
        source: errno.into(),
    }
}

fn vanished(path: &Path) -> CgroupError {
    CgroupError::Io {
        attempt: "open control group",
        path: path.to_path_buf(),
        source: std::io::Error::from(std::io::ErrorKind::NotFound),
    }
}

/// Gives a version 1 cpuset that has no processors or memory nodes those of its parent (cpusets(7): a new
/// cpuset starts out empty).
fn inherit_cpuset(directory: &Directory, path: &Path) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = directory.read(file)?.unwrap_or_default();
        if !own.trim().is_empty() {
            continue;
        }
        let Some(above) = path.parent() else { continue };
        let Some(parent) = Directory::open(above)? else {
            continue;
        };
        let mut inherited = parent.read(file)?;
        if inherited
            .as_ref()
            .is_some_and(|text| text.trim().is_empty())
        {
            inherit_cpuset(&parent, above)?;
            inherited = parent.read(file)?;
        }
        if let Some(text) = inherited {
            directory.write(file, text.trim())?;
        }
    }
    Ok(())
}

/// Enables controllers in every group above `path`, from the top of the hierarchy: those named, or all there are.
///
/// A level that already hands a controller down is only read: writing would make the kernel wait for a grace
/// period. A level that refuses (it holds processes, or it is not ours) ends the walk.
pub(super) fn hand_down_controllers(path: &Path, wanted: Option<&str>) -> Result<(), CgroupError> {
    let mut levels: Vec<Directory> = Vec::new();
    let mut above = path.parent();
    while let Some(level) = above {
        match Directory::open(level)? {
            Some(directory) if directory.has("cgroup.subtree_control") => levels.push(directory),
            _ => break,
        }
        above = level.parent();
    }
    for level in levels.iter().rev() {
        let available = level.read("cgroup.controllers")?.unwrap_or_default();
        let enabled = level.read("cgroup.subtree_control")?.unwrap_or_default();
        let missing: Vec<String> = available
            .split_whitespace()
            .filter(|name| wanted.is_none_or(|wanted| wanted == *name))
            .filter(|name| !enabled.split_whitespace().any(|present| present == *name))
            .map(|name| format!("+{name}"))
            .collect();
        if missing.is_empty() {
            continue;
        }
        if level
            .try_write("cgroup.subtree_control", &missing.join(" "))
            .is_err()
        {
            // The write is all or nothing: one controller that cannot be handed down (cpu while real-time tasks
            // exist, domain controllers of a level with processes) must not take the others with it.
            for one in &missing {
                let _ = level.try_write("cgroup.subtree_control", one);
            }
        }
    }
    Ok(())
}

/// A group beneath a threaded one starts out unusable and becomes threaded itself (cgroup-v2.rst, "Threads").
fn make_usable(directory: &Directory) -> Result<(), CgroupError> {
    let kind = directory.read("cgroup.type")?.unwrap_or_default();
    if kind.trim() == "domain invalid" {
        directory.write("cgroup.type", "threaded")?;
    }
    Ok(())
}
