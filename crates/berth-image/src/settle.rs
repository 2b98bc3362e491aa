//! When what a transfer brought is on disk.
//!
//! A transfer's answer promises that the image is whole and stays when any process is killed. That it also survives a
//! power cut costs as long as the disk takes to write everything: for a large image longer than all the rest. So small
//! transfers are on disk with the answer, and large ones some seconds later. Until then their images are marked in the
//! records with the boot that they came in; what is still marked by an earlier boot when the store is opened may have
//! been cut, and is forgotten ([`crate::records`]). An image is there whole or not at all in either case.
//!
//! Owns: the one thread that writes to disk later, which lives only while there is something to write. See
//! `docs/decisions/0013-pulls-settle-later.md`.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use crate::limits;
use crate::store::{ImageId, ImageStore, Inner};

#[derive(Debug, Default)]
struct State {
    pending: Vec<ImageId>,
    /// When the newest of them came.
    last: Option<Instant>,
    working: bool,
}

/// What is not on disk yet.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    state: Arc<(Mutex<State>, Condvar)>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Settling {
    /// Whether something is waiting, so that a small transfer would have to write it as well.
    pub(crate) fn is_pending(&self) -> bool {
        lock(&self.state.0).working
    }

    /// Writes these images to disk in a while.
    pub(crate) fn later(&self, inner: &Arc<Inner>, images: impl IntoIterator<Item = ImageId>) {
        let mut state = lock(&self.state.0);
        state.pending.extend(images);
        if state.pending.is_empty() {
            return;
        }
        state.last = Some(Instant::now());
        if std::mem::replace(&mut state.working, true) {
            return;
        }
        drop(state);
        let (shared, inner) = (self.state.clone(), Arc::downgrade(inner));
        let spawned = std::thread::Builder::new()
            .name("settle".into())
            .spawn(move || work(&shared, &inner));
        if spawned.is_err() {
            // The marks stay; the next transfer or start tries again.
            lock(&self.state.0).working = false;
        }
    }
}

fn work(shared: &(Mutex<State>, Condvar), inner: &Weak<Inner>) {
    loop {
        let images = {
            let mut state = lock(&shared.0);
            loop {
                let waited = state
                    .last
                    .map_or(limits::SETTLE_AFTER, |last| last.elapsed());
                let Some(left) = limits::SETTLE_AFTER
                    .checked_sub(waited)
                    .filter(|d| !d.is_zero())
                else {
                    break;
                };
                state = shared
                    .1
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            std::mem::take(&mut state.pending)
        };
        let store = inner.upgrade().map(|inner| ImageStore { inner });
        let settled = store.as_ref().is_none_or(|store| {
            let outcome = store
                .barrier()
                .and_then(|()| store.inner.records.settled(&images));
            if let Err(error) = &outcome {
                // They stay marked, which is the truth.
                tracing::debug!(%error, "images are not on disk yet");
            }
            outcome.is_ok()
        });
        let mut state = lock(&shared.0);
        if state.pending.is_empty() || !settled {
            state.working = false;
            return;
        }
    }
}
