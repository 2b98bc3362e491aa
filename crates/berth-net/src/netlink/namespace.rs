//! A network namespace as a descriptor, and work done inside it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use berth_sys::namespace::{self, Kind};

use super::{Error, Result};

/// A network namespace, alive at least as long as this descriptor.
#[derive(Debug)]
pub struct Namespace {
    descriptor: OwnedFd,
    identity: (u64, u64),
}

impl Namespace {
    /// The namespace the calling thread is in.
    pub fn current() -> Result<Self> {
        Self::at(Path::new("/proc/thread-self/ns/net"))
    }

    /// The namespace a file leads to: `/proc/PID/ns/net`, or where one was bound.
    pub fn at(path: &Path) -> Result<Self> {
        Self::from_descriptor(namespace::open(path)?)
    }

    /// The namespace behind a descriptor.
    pub fn from_descriptor(descriptor: OwnedFd) -> Result<Self> {
        let identity = namespace::identity(&descriptor)?;
        Ok(Self {
            descriptor,
            identity,
        })
    }

    /// A further descriptor of the same namespace.
    pub fn try_clone(&self) -> Result<Self> {
        let descriptor = self
            .descriptor
            .try_clone()
            .map_err(|cause| Error::io("duplicate a namespace descriptor", cause))?;
        Ok(Self {
            descriptor,
            identity: self.identity,
        })
    }

    /// Device and inode: equal for equal namespaces.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// The descriptor itself.
    #[must_use]
    pub fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }

    /// Runs `work` inside: at once when the calling thread is there, else in a short-lived thread that enters.
    ///
    /// The calling thread never changes its namespace. A panic of `work` is passed on.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        if Self::current()?.identity == self.identity {
            return Ok(work());
        }
        let inside = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("namespace".to_owned())
                .spawn_scoped(scope, || -> Result<T> {
                    namespace::enter(&self.descriptor, Kind::Network)?;
                    Ok(work())
                })
                .map(std::thread::ScopedJoinHandle::join)
        })
        .map_err(|cause| Error::io("start a thread for a namespace", cause))?;
        match inside {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
