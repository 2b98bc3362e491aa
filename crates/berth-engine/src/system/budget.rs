//! Keeping images, build cache and logs within a size that the user set; and writing down when images were used.
//!
//! Owns: the task that looks, after images came and every few minutes, and what it may remove by itself: images that
//! no container is made from, that were not used for some time, least recently used first. **Never** volumes,
//! containers or images in use. Off unless a limit is set. What it does is told by events.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_image::{ImageStore, ListRequest, Removal, RemoveRequest};
use berth_types::Timestamp;
use indexmap::IndexMap;
use tokio::sync::Notify;

use super::usage;
use crate::containers::index::Index;
use crate::error::EngineError;
use crate::events::{EventKind, Events};
use crate::host::Host;
use crate::limits;

/// How much images, build cache and logs may occupy together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskBudget {
    /// Bytes.
    pub limit: u64,
    /// How long an image must not have been used before it may go.
    pub unused_for: Duration,
}

/// Tells the task that images came. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Growth(Arc<Notify>);

impl Growth {
    /// Something came that occupies the disk.
    pub(crate) fn happened(&self) {
        self.0.notify_one();
    }
}

/// Ends the task with the engine.
#[derive(Debug)]
pub(crate) struct Housekeeping(tokio::task::JoinHandle<()>);

impl Drop for Housekeeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Keeper {
    host: Arc<Host>,
    images: ImageStore,
    index: Index,
    events: Events,
}

/// Begins to keep house.
pub(crate) fn keep(
    host: Arc<Host>,
    images: ImageStore,
    index: Index,
    events: Events,
    growth: Growth,
) -> Housekeeping {
    let keeper = Arc::new(Keeper {
        host,
        images,
        index,
        events,
    });
    Housekeeping(tokio::spawn(async move {
        loop {
            let due = tokio::time::timeout(limits::HOUSEKEEPING_INTERVAL, growth.0.notified());
            let periodic = due.await.is_err();
            let keeper = Arc::clone(&keeper);
            let done = tokio::task::spawn_blocking(move || keeper.look(periodic)).await;
            match done {
                Ok(Ok(())) => {}
                // Nobody asked, so nobody is told but the log; the next look tries again.
                Ok(Err(error)) => {
                    tracing::warn!(error = %error.full_text(), "keep the disk within its budget")
                }
                Err(error) => {
                    tracing::error!(%error, "defect while keeping the disk within its budget")
                }
            }
        }
    }))
}

impl Keeper {
    fn look(&self, periodic: bool) -> Result<(), EngineError> {
        if periodic {
            self.images.save_uses()?;
        }
        match self.host.config().disk_budget {
            Some(budget) => self.enforce(budget),
            None => Ok(()),
        }
    }

    fn enforce(&self, budget: DiskBudget) -> Result<(), EngineError> {
        let parts = usage::measure(&self.host, &self.images)?;
        let logs: u64 = parts.logs.values().sum();
        let occupied = |store: &ImageStore| -> Result<u64, EngineError> {
            Ok(store.needed_bytes(&parts.store)? + parts.store.other + logs)
        };
        let before = occupied(&self.images)?;
        if before <= budget.limit {
            return Ok(());
        }
        let now: Timestamp = SystemTime::now().into();
        let held: HashSet<_> = crate::images::uses(&self.index)
            .into_iter()
            .map(|used| used.image)
            .collect();
        let mut candidates: Vec<_> = self
            .images
            .list(&ListRequest {
                all: true,
                ..ListRequest::default()
            })?
            .into_iter()
            .filter(|image| {
                !held.contains(&image.id) && !berth_image::builtin::is_builtin(&image.id)
            })
            .filter_map(|image| Some((self.images.last_used_of(&image.id).ok()??, image.id)))
            .filter(|(used, _)| now.since(*used) >= budget.unused_for)
            .collect();
        candidates.sort_unstable();
        let mut left = before;
        let mut removed = 0_usize;
        for (_, id) in candidates {
            if left <= budget.limit {
                break;
            }
            let force = RemoveRequest {
                force: true,
                no_prune: false,
            };
            // Used since, or a parent of another: it stays.
            let Ok(removals) = self
                .images
                .remove_unused(&id.to_string(), force, || crate::images::uses(&self.index))
            else {
                continue;
            };
            crate::images::announce_removals(&self.events, &removals);
            removed += removals
                .iter()
                .filter(|removal| matches!(removal, Removal::Image(_)))
                .count();
            left = occupied(&self.images)?;
        }
        let attributes = IndexMap::from([
            ("limit".to_owned(), budget.limit.to_string()),
            ("occupied".to_owned(), left.to_string()),
            (
                "reclaimed".to_owned(),
                (before - left.min(before)).to_string(),
            ),
            ("images".to_owned(), removed.to_string()),
        ]);
        self.events.publish(
            EventKind::Daemon,
            "disk-budget",
            self.host.id.clone(),
            attributes,
        );
        Ok(())
    }
}
