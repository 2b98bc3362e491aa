//! Out-of-memory kills: how many there were, and a descriptor that tells of them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::EventfdFlags;
use rustix::fs::OFlags;
use rustix::fs::inotify;
use rustix::io::Errno;

use super::directory::Directory;
use super::{Cgroup, CgroupError};

/// A descriptor that tells of out-of-memory kills.
#[derive(Debug)]
pub struct OomEvents {
    source: Source,
    /// A second descriptor of the directory with the memory controller.
    directory: Directory,
}

#[derive(Debug)]
enum Source {
    /// An eventfd registered with `cgroup.event_control` (memory.rst, "OOM Control").
    V1 { events: OwnedFd },
    /// An inotify descriptor on `memory.events`, which the kernel reports as modified.
    V2 { events: OwnedFd, seen: u64 },
}

impl OomEvents {
    /// Becomes readable when something happened, on version 2 also when the limit was merely hit. May be put into an
    /// epoll set.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::V1 { events } | Source::V2 { events, .. } => events.as_fd(),
        }
    }

    /// Takes what made the descriptor readable and returns how often the group ran out of memory since the last
    /// call. Never blocks. On version 1 the kernel tells just before it kills, on version 2 just after.
    ///
    /// # Errors
    /// When the counters cannot be read; a group that is gone counts as no kills.
    pub fn take(&mut self) -> Result<u64, CgroupError> {
        let directory = &self.directory;
        let failed = |errno: Errno| CgroupError::Io {
            attempt: "read the out-of-memory events of",
            path: directory.path().to_path_buf(),
            source: errno.into(),
        };
        match &mut self.source {
            Source::V1 { events } => {
                let mut counter = [0_u8; 8];
                match rustix::io::read(&*events, &mut counter) {
                    Ok(8) => {}
                    Ok(_) | Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
                    Err(errno) => return Err(failed(errno)),
                }
                // The removal of the group raises the event as well.
                match directory.read("memory.oom_control")? {
                    Some(_) => Ok(u64::from_ne_bytes(counter)),
                    None => Ok(0),
                }
            }
            Source::V2 { events, seen } => {
                let mut buffer = [0_u8; 4096];
                loop {
                    match rustix::io::read(&*events, &mut buffer) {
                        Ok(0) | Err(Errno::AGAIN) => break,
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(errno) => return Err(failed(errno)),
                    }
                }
                let now = directory
                    .read_key("memory.events", "oom_kill")?
                    .unwrap_or(*seen);
                let fresh = now.saturating_sub(*seen);
                *seen = now;
                Ok(fresh)
            }
        }
    }
}

impl Cgroup {
    /// How many processes of the group the kernel killed for lack of memory; 0 without a memory controller.
    ///
    /// # Errors
    /// When the counter cannot be read.
    pub fn oom_count(&self) -> Result<u64, CgroupError> {
        let count = match (self.v1("memory"), &self.unified) {
            (Some(memory), _) => memory.read_key("memory.oom_control", "oom_kill")?,
            (None, Some(unified)) => unified.read_key("memory.events", "oom_kill")?,
            (None, None) => None,
        };
        Ok(count.unwrap_or(0))
    }

    /// A descriptor that becomes readable when the group runs out of memory; `None` without a memory controller.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn oom_events(&self) -> Result<Option<OomEvents>, CgroupError> {
        if let Some(memory) = self.v1("memory") {
            return oom_events_v1(memory).map(Some);
        }
        match &self.unified {
            Some(unified) if unified.has("memory.events") => oom_events_v2(unified).map(Some),
            _ => Ok(None),
        }
    }
}

fn oom_events_v1(memory: &Directory) -> Result<OomEvents, CgroupError> {
    use std::os::fd::AsRawFd;
    let events = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| CgroupError::Io {
            attempt: "make an event descriptor for",
            path: memory.path().to_path_buf(),
            source: errno.into(),
        })?;
    let control = memory.open_file("memory.oom_control", OFlags::RDONLY)?;
    memory.write(
        "cgroup.event_control",
        &format!("{} {}", events.as_raw_fd(), control.as_raw_fd()),
    )?;
    Ok(OomEvents {
        source: Source::V1 { events },
        directory: reopened(memory)?,
    })
}

fn oom_events_v2(unified: &Directory) -> Result<OomEvents, CgroupError> {
    let path = unified.path().join("memory.events");
    let failed = |errno: Errno| CgroupError::Io {
        attempt: "watch",
        path: path.clone(),
        source: errno.into(),
    };
    let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .map_err(failed)?;
    inotify::add_watch(&events, &path, inotify::WatchFlags::MODIFY).map_err(failed)?;
    let seen = unified.read_key("memory.events", "oom_kill")?.unwrap_or(0);
    Ok(OomEvents {
        source: Source::V2 { events, seen },
        directory: reopened(unified)?,
    })
}

fn reopened(directory: &Directory) -> Result<Directory, CgroupError> {
    directory.child(".")?.ok_or_else(|| CgroupError::Io {
        attempt: "open control group",
        path: directory.path().to_path_buf(),
        source: std::io::Error::from(std::io::ErrorKind::NotFound),
    })
}
