//! The root file systems of containers that do not run, while somebody looks at their files.
//!
//! Owns one mount for each such container, of which every view gets a copy, and so does a start that comes meanwhile:
//! an upper directory is never mounted twice, since two overlays over it would not know of each other's changes.
//!
//! ```text
//!                    not there ── first view ──▶ open ── last view closed ──▶ not there
//!                                                 │
//!                                        start: a copy goes to the monitor
//! ```
//!
//! Invariant: a mount is made only for a container whose start is not under way, which is looked up under the lock that
//! a start takes before it mounts; whoever of the two comes second finds the entry of the first, and one of them mounts.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use berth_sys::mount::view::SharedMount;
use berth_types::ContainerId;

use crate::error::EngineError;

/// All roots that are open. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roots {
    open: Arc<Mutex<HashMap<ContainerId, Weak<OpenRoot>>>>,
}

/// The root of one container; keeps it mounted as long as it lives.
#[derive(Debug, Default)]
pub(crate) struct OpenRoot {
    /// `None` until it is mounted, and when it could not be. Held while it is being mounted.
    mount: Mutex<Option<SharedMount>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Roots {
    /// The root of a container for a view; `None` when `is_still` says that it runs or is about to.
    pub(super) fn open(
        &self,
        container: &ContainerId,
        is_still: impl FnOnce() -> bool,
    ) -> Option<Arc<OpenRoot>> {
        let mut open = lock(&self.open);
        if !is_still() {
            return None;
        }
        if let Some(root) = open.get(container).and_then(Weak::upgrade) {
            return Some(root);
        }
        open.retain(|_, root| root.strong_count() > 0);
        let root = Arc::<OpenRoot>::default();
        open.insert(container.clone(), Arc::downgrade(&root));
        Some(root)
    }

    /// The root of a container for its start, where somebody looks at it. Whoever asks has made known before that the
    /// container starts.
    pub(crate) fn for_start(&self, container: &ContainerId) -> Option<Arc<OpenRoot>> {
        lock(&self.open).get(container).and_then(Weak::upgrade)
    }
}

impl OpenRoot {
    /// A copy of the mount, which `mount` makes when there is none. Blocks.
    pub(crate) fn copy(
        &self,
        mount: impl FnOnce() -> Result<OwnedFd, EngineError>,
    ) -> Result<OwnedFd, EngineError> {
        let failed = |error| super::failed("share the root file system of a container", error);
        let mut mounted = lock(&self.mount);
        let shared = match &mut *mounted {
            Some(shared) => shared,
            none => none.insert(SharedMount::keep(mount()?).map_err(failed)?),
        };
        shared.copy().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_open_once_and_not_while_its_container_starts() {
        let roots = Roots::default();
        let id = ContainerId::from_random([7; 32]);
        let one = roots.open(&id, || true).unwrap();
        let other = roots.open(&id, || true).unwrap();
        assert!(Arc::ptr_eq(&one, &other));
        assert!(roots.open(&id, || false).is_none());
        // A start finds it, whether it is mounted already or not.
        let start = roots.for_start(&id).unwrap();
        assert!(Arc::ptr_eq(&one, &start));
        let refused = one.copy(|| Err(EngineError::Internal("no".to_owned())));
        assert!(refused.is_err());
        drop((one, other, start));
        assert!(roots.for_start(&id).is_none());
        let again = roots.open(&id, || true).unwrap();
        assert_eq!(lock(&roots.open).len(), 1);
        drop(again);
    }
}
