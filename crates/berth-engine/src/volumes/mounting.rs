//! Volumes of running containers: mounted on first use, unmounted after the last.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use berth_sys::path::Root;
use berth_types::{ContainerId, ErrorKind};
use rustix::fs::{Mode, OFlags};

use super::driver::MountSource;
use super::record::VolumeRecord;
use super::{Shared, Volumes, book, fill, lower_case};
use crate::error::EngineError;

/// A volume that a starting container mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountAsk {
    /// The volume.
    pub(crate) volume: String,
    /// Path in the container.
    pub(crate) target: String,
    /// Path within the volume; empty for all of it.
    pub(crate) subpath: String,
    /// Whether the container may write.
    pub(crate) writable: bool,
}

/// What volumes are mounted for. The one does not end what the other needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A container's run.
    Run,
    /// A view of its files, until that has mounts of its own.
    Look,
}

/// The sources of a starting container's volumes, by target. Descriptors are held until this is dropped.
pub(crate) type MountSources = Vec<(String, MountSource)>;

impl Volumes {
    /// Mounts what a starting container, or a look at its files, wants. On failure nothing of it stays mounted.
    pub(crate) async fn mount(
        &self,
        container: &ContainerId,
        asks: Vec<MountAsk>,
        purpose: Purpose,
    ) -> Result<MountSources, EngineError> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        let (own, names) = (container.clone(), volume_names(&asks));
        let records = self.shared.use_all(container, &names, purpose)?;
        let mounted = self
            .shared
            .block_on(&records, move |shared| {
                asks.into_iter()
                    .map(|ask| {
                        let source = shared.mount_one(&own, &ask)?;
                        Ok((ask.target, source))
                    })
                    .collect::<Result<MountSources, EngineError>>()
            })
            .await;
        if mounted.is_err() {
            // The first failure is the one to tell.
            let _ = self.unmount(container, &names, purpose).await;
        }
        mounted
    }

    /// Takes up what a running container has mounted.
    pub(crate) fn adopt(&self, container: &ContainerId, names: &[String]) {
        let mut book = self.shared.book();
        for name in names {
            if let Some(entry) = book.entries.get_mut(name) {
                entry.users.entry(container.clone()).or_default().mounted = true;
            }
        }
    }

    /// Undoes `mount`; not mounted is fine.
    pub(crate) async fn unmount(
        &self,
        container: &ContainerId,
        names: &[String],
        purpose: Purpose,
    ) -> Result<(), EngineError> {
        let mut left = Vec::new();
        {
            let mut book = self.shared.book();
            for name in names {
                let Some(entry) = book.entries.get_mut(name) else {
                    continue;
                };
                let Some(used) = entry.users.get_mut(container) else {
                    continue;
                };
                let was_used = match purpose {
                    Purpose::Run => std::mem::take(&mut used.mounted),
                    Purpose::Look => used.looks > 0,
                };
                if was_used {
                    used.looks -= u32::from(purpose == Purpose::Look);
                    left.push(Arc::clone(&entry.record));
                }
            }
        }
        for record in &left {
            self.shared.announce(
                "unmount",
                record,
                &[("container", container.as_str().to_owned())],
            );
        }
        left.retain(|record| !self.shared.is_plain(record));
        if left.is_empty() {
            return Ok(());
        }
        let records = left.clone();
        self.shared
            .block_on(&records, move |shared| {
                // All are attempted; the first failure is told.
                let mut outcome = Ok(());
                for record in left {
                    let done = shared.unmount_unused(&record);
                    outcome = outcome.and(done);
                }
                outcome
            })
            .await
    }

    /// Unmounts what nobody uses: what an engine that died had mounted for containers that have ended since.
    pub(crate) async fn settle(&self) {
        let mut records: Vec<Arc<VolumeRecord>> = {
            let book = self.shared.book();
            let idle = book.entries.values().filter(|e| !e.is_mounted());
            idle.map(|e| Arc::clone(&e.record)).collect()
        };
        records.retain(|record| !self.shared.is_plain(record));
        if records.is_empty() {
            return;
        }
        let idle = records.clone();
        let done = self
            .shared
            .block_on(&records, move |shared| {
                for record in &idle {
                    if let Err(error) = shared.unmount_unused(record) {
                        tracing::error!(
                            volume = record.name,
                            error = error.full_text(),
                            "a volume that nobody uses stays mounted"
                        );
                    }
                }
                Ok(())
            })
            .await;
        if let Err(error) = done {
            tracing::error!(
                error = error.full_text(),
                "volumes were not looked at for mounts"
            );
        }
    }
}

fn volume_names(asks: &[MountAsk]) -> Vec<String> {
    asks.iter().map(|ask| ask.volume.clone()).collect()
}

impl Shared {
    /// Notes that volumes are used, all or none; gives their records.
    fn use_all(
        &self,
        container: &ContainerId,
        names: &[String],
        purpose: Purpose,
    ) -> Result<Vec<Arc<VolumeRecord>>, EngineError> {
        let mut book = self.book();
        for name in names {
            match book.entries.get(name).map(|entry| &entry.stage) {
                Some(book::Stage::Busy(what)) => {
                    return Err(EngineError::Conflict(format!(
                        "volume {name} is being {what}"
                    )));
                }
                Some(_) => {}
                None => return Err(book::missing(name)),
            }
        }
        let mut records = Vec::with_capacity(names.len());
        for name in names {
            if let Some(entry) = book.entries.get_mut(name) {
                records.push(Arc::clone(&entry.record));
                let used = entry.users.entry(container.clone()).or_default();
                match purpose {
                    Purpose::Run => used.mounted = true,
                    Purpose::Look => used.looks += 1,
                }
            }
        }
        Ok(records)
    }

    fn mount_one(
        &self,
        container: &ContainerId,
        ask: &MountAsk,
    ) -> Result<MountSource, EngineError> {
        let (record, turn) = {
            let book = self.book();
            let entry = book
                .entries
                .get(&ask.volume)
                .ok_or_else(|| book::missing(&ask.volume))?;
            (Arc::clone(&entry.record), Arc::clone(&entry.turn))
        };
        let source = {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            let driver = self.driver(&record)?;
            if !driver.exists(&record.name) {
                // Its record was written, and then a crash came, or the directory could not be renamed.
                driver.publish(&record.name)?;
            }
            let source = driver.mount(&record)?;
            let is_directory = || berth_sys::fs::metadata(&source.path).is_ok_and(|m| m.is_dir());
            if !self.is_plain(&record) && is_directory() {
                fill::finish(&driver.open(&record)?)?;
            }
            source
        };
        let source = match ask.subpath.as_str() {
            "" => source,
            subpath => within(source, subpath)?,
        };
        self.announce(
            "mount",
            &record,
            &[
                ("container", container.as_str().to_owned()),
                ("destination", ask.target.clone()),
                ("propagation", String::new()),
                ("read/write", ask.writable.to_string()),
            ],
        );
        Ok(source)
    }

    /// Unmounts a volume unless somebody uses it. Blocks.
    pub(super) fn unmount_unused(&self, record: &Arc<VolumeRecord>) -> Result<(), EngineError> {
        let turn = self
            .book()
            .entries
            .get(&record.name)
            .map(|e| Arc::clone(&e.turn));
        let Some(turn) = turn else {
            return Ok(());
        };
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let used = self
            .book()
            .entries
            .get(&record.name)
            .is_some_and(book::Entry::is_mounted);
        if used {
            return Ok(());
        }
        self.driver(record)?.unmount(record)
    }
}

/// The part of a volume that is mounted. Containers decide what is in a volume, so the path is looked up with the
/// volume as root, and what was found is handed on as a descriptor: nothing they change afterwards matters.
fn within(source: MountSource, subpath: &str) -> Result<MountSource, EngineError> {
    let attempt = || format!("cannot access path {}", source.path.join(subpath).display());
    let fail = |e: berth_sys::Error| {
        EngineError::failed(attempt(), ErrorKind::Internal, lower_case(e.into_cause()))
    };
    let root = Root::open(&source.path).map_err(fail)?;
    let found: OwnedFd = root
        .open_at(Path::new(subpath), OFlags::PATH, Mode::empty())
        .map_err(fail)?;
    Ok(MountSource {
        path: PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            found.as_raw_fd()
        )),
        held: Some(found),
        ..source
    })
}
