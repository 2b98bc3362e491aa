//! Keeping images, build cache and logs within a size that the user set; and writing down when images were used.
//!
//! Owns: the task that looks, after images came and every few minutes, and what it may remove by itself, what is missed
//! least first:
//!
//! 1. content of pulls that ended early: the next pull fetches it anew;
//! 2. images that no container is made from and that were not used for some time, least recently used first;
//! 3. rotated files of logs whose container has not run for that time, the one that ended first, its oldest file.
//!
//! **Never** volumes, containers, images in use, logs of containers that run (their own options bound those) or the latest
//! file of any log. Off unless a limit is set. What it does is told by events.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_image::{ImageStore, ListRequest, Removal, RemoveRequest, StoreUsage};
use berth_monitor::log::rotated_files;
use berth_types::Timestamp;
use indexmap::IndexMap;
use tokio::sync::Notify;

use super::usage;
use crate::containers::index::Index;
use crate::containers::phase::Phase;
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
        // What was removed already must not cost anything else its place.
        self.images.wait_for_trash();
        let parts = usage::measure(&self.host, &self.images)?;
        let logs: u64 = parts.logs.values().sum();
        let mut occupied = Occupied {
            store: &self.images,
            parts: &parts.store,
            limit: budget.limit,
            images: self.images.needed_bytes(&parts.store)?,
            other: parts.store.other + logs,
        };
        let before = occupied.total();
        if before <= budget.limit {
            return Ok(());
        }
        let partial = self.images.shed_partials(occupied.excess())?;
        occupied.other -= partial.min(occupied.other);
        let removed = self.remove_images(budget, &mut occupied)?;
        let of_logs = self.remove_logs(budget, &mut occupied)?;
        let left = occupied.total();
        let attributes = [
            ("limit", budget.limit),
            ("occupied", left),
            ("reclaimed", before - left.min(before)),
            ("images", removed),
            ("partial", partial),
            ("logs", of_logs),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_string()));
        self.events.publish(
            EventKind::Daemon,
            "disk-budget",
            self.host.id.clone(),
            IndexMap::from(attributes),
        );
        Ok(())
    }

    /// Removes unused images, and tells how many.
    fn remove_images(
        &self,
        budget: DiskBudget,
        occupied: &mut Occupied<'_>,
    ) -> Result<u64, EngineError> {
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
        let mut removed = 0;
        for (_, id) in candidates {
            if occupied.excess() == 0 {
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
                .count() as u64;
            occupied.images = occupied.store.needed_bytes(occupied.parts)?;
        }
        Ok(removed)
    }

    /// Removes rotated files of logs that nobody has written to for long, and tells their bytes.
    fn remove_logs(
        &self,
        budget: DiskBudget,
        occupied: &mut Occupied<'_>,
    ) -> Result<u64, EngineError> {
        let now: Timestamp = SystemTime::now().into();
        let mut quiet: Vec<_> = self
            .index
            .all()
            .into_iter()
            .map(|handle| (handle.view().last.finished_at, handle))
            .filter(|(ended, handle)| {
                let view = handle.view();
                matches!(view.phase, Phase::Exited)
                    && !view.paths.log.as_os_str().is_empty()
                    && now.since(*ended) >= budget.unused_for
            })
            .collect();
        quiet.sort_by(|(one, a), (other, b)| one.cmp(other).then_with(|| a.id.cmp(&b.id)));
        let failed = |error: berth_sys::Error| {
            let kind = error.kind();
            EngineError::failed("remove rotated logs", kind, error)
        };
        let mut freed = 0;
        for (_, handle) in quiet {
            for file in rotated_files(&handle.view().paths.log).map_err(failed)? {
                // It may have been started meanwhile.
                if occupied.excess() == 0 || !matches!(handle.view().phase, Phase::Exited) {
                    break;
                }
                let bytes = berth_sys::fs::symlink_metadata(&file)
                    .map_or(0, |metadata| metadata.blocks() * BLOCK);
                berth_sys::fs::remove_file(&file).map_err(failed)?;
                freed += bytes;
                occupied.other -= bytes.min(occupied.other);
            }
        }
        Ok(freed)
    }
}

/// Bytes of one block as stat(2) counts them.
const BLOCK: u64 = 512;

/// What counts towards the limit, while some of it goes.
struct Occupied<'a> {
    store: &'a ImageStore,
    parts: &'a StoreUsage,
    limit: u64,
    images: u64,
    /// The store's own, and logs.
    other: u64,
}

impl Occupied<'_> {
    fn total(&self) -> u64 {
        self.images + self.other
    }

    /// Bytes above the limit.
    fn excess(&self) -> u64 {
        self.total().saturating_sub(self.limit)
    }
}
