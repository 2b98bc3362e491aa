//! The volumes of a new container: found or made, filled, and held before its record is written.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use berth_image::ImageId;
use berth_types::ContainerId;

use super::book::{Entry, Stage, Use};
use super::fill::ImageContent;
use super::record::VolumeRecord;
use super::request::Wanted;
use super::{Shared, Volumes};
use crate::error::EngineError;

/// Volumes of a container whose record is not written yet. Dropped before [`Prepared::keep`], the holds end and
/// volumes that nobody gave a name are gone.
#[derive(Debug)]
pub(crate) struct Prepared {
    shared: Arc<Shared>,
    container: ContainerId,
    /// What is mounted, in the order of what was wanted.
    found: Vec<(Arc<VolumeRecord>, bool)>,
    /// Those without a name, whose records are written with the container's.
    fresh: Vec<Arc<VolumeRecord>>,
    kept: bool,
}

impl Volumes {
    /// Finds or makes what a new container mounts, and holds it.
    ///
    /// # Errors
    /// When a volume makes no sense or cannot be made or filled.
    pub(crate) async fn prepare(
        &self,
        container: &ContainerId,
        image: ImageId,
        wanted: Vec<(Wanted, bool)>,
    ) -> Result<Prepared, EngineError> {
        let mut prepared = Prepared {
            shared: Arc::clone(&self.shared),
            container: container.clone(),
            found: Vec::new(),
            fresh: Vec::new(),
            kept: false,
        };
        if wanted.is_empty() {
            return Ok(prepared);
        }
        // A client that is told "not found" when it creates a container takes that for the image.
        let not_the_image = |error| match error {
            EngineError::NotFound(text) => EngineError::Invalid(text),
            other => other,
        };
        let mut work = Vec::new();
        for (wanted, writable) in wanted {
            let anonymous = wanted.volume.name.is_empty();
            let record = if anonymous {
                let record = self
                    .shared
                    .plan(wanted.volume.clone())
                    .map_err(not_the_image)?;
                prepared.fresh.push(Arc::clone(&record));
                record
            } else if wanted.existing {
                self.shared
                    .hold_existing(&wanted, container, writable)
                    .map_err(not_the_image)?
            } else {
                let holder = Some((container, writable));
                self.shared
                    .ensure(wanted.volume.clone(), holder)
                    .await
                    .map_err(not_the_image)?
            };
            prepared.found.push((Arc::clone(&record), writable));
            work.push((record, wanted, anonymous));
        }
        let records: Vec<_> = work.iter().map(|(r, ..)| Arc::clone(r)).collect();
        self.shared
            .block_on(&records, move |shared| {
                let mut content = ImageContent::new(&shared.images, image);
                for (record, wanted, anonymous) in &work {
                    if *anonymous {
                        shared.make_fresh(record, wanted, &mut content)?;
                    } else if wanted.copy && !record.read_only {
                        shared.fill(record, wanted, &mut content)?;
                    }
                }
                Ok(())
            })
            .await?;
        Ok(prepared)
    }
}

impl Prepared {
    /// What is mounted, in the order of what was wanted: name, driver, where it is on the host, and whether it can be
    /// written to.
    pub(crate) fn mounts(&self) -> impl Iterator<Item = (&Arc<VolumeRecord>, PathBuf, bool)> {
        self.found.iter().map(|(record, writable)| {
            let mountpoint = self
                .shared
                .driver(record)
                .map(|d| d.mountpoint(&record.name))
                .unwrap_or_default();
            (record, mountpoint, *writable && !record.read_only)
        })
    }

    /// Records that belong in one transaction with the container's.
    pub(crate) fn fresh(&self) -> &[Arc<VolumeRecord>] {
        &self.fresh
    }

    /// The records are on disk.
    ///
    /// # Errors
    /// When a volume cannot be given its name; then the next start of the container, or of the engine, does it.
    pub(crate) async fn keep(mut self) -> Result<(), EngineError> {
        self.kept = true;
        if self.fresh.is_empty() {
            return Ok(());
        }
        {
            let mut book = self.shared.book();
            for record in &self.fresh {
                let writable = self
                    .found
                    .iter()
                    .any(|(found, writable)| found.name == record.name && *writable);
                let mut entry = Entry::new(Arc::clone(record), Stage::Ready);
                let held = Use {
                    writable,
                    ..Use::default()
                };
                entry.users.insert(self.container.clone(), held);
                book.entries.insert(record.name.clone(), entry);
            }
        }
        let fresh = self.fresh.clone();
        for record in &fresh {
            self.shared.announce("create", record, &[]);
        }
        self.shared
            .block(move |shared| {
                for record in &fresh {
                    shared.driver(record)?.publish(&record.name)?;
                }
                Ok(())
            })
            .await
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        {
            let mut book = self.shared.book();
            for (record, _) in &self.found {
                book.let_go(&record.name, &self.container);
            }
        }
        for record in &self.fresh {
            // One call each: what is in it goes off the path.
            if let Ok(driver) = self.shared.driver(record) {
                let _ = driver.discard(&record.name);
            }
        }
    }
}

impl Shared {
    fn hold_existing(
        &self,
        wanted: &Wanted,
        container: &ContainerId,
        writable: bool,
    ) -> Result<Arc<VolumeRecord>, EngineError> {
        let mut book = self.book();
        let entry = book.find_quiet(&wanted.volume.name)?;
        let used = entry.users.entry(container.clone()).or_default();
        used.writable |= writable && !entry.record.read_only;
        Ok(Arc::clone(&entry.record))
    }

    /// A volume that only this container knows, and that is not found before the container is. Blocks.
    fn make_fresh(
        &self,
        record: &VolumeRecord,
        wanted: &Wanted,
        content: &mut ImageContent<'_>,
    ) -> Result<(), EngineError> {
        let root = self.driver(record)?.prepare(&record.name)?;
        if wanted.copy && self.is_plain(record) {
            content.copy_into(&wanted.target, wanted.over_directory, root)?;
        } else if wanted.over_directory {
            content.has(&wanted.target, true)?;
        }
        Ok(())
    }

    /// Copies what the image has into a named volume that is empty. Blocks.
    fn fill(
        &self,
        record: &Arc<VolumeRecord>,
        wanted: &Wanted,
        content: &mut ImageContent<'_>,
    ) -> Result<(), EngineError> {
        // What is put into memory now would be gone before the container starts, and where nothing can be written
        // nothing is copied.
        let kind = record.options.get("type").map_or("", String::as_str);
        if matches!(kind, "tmpfs" | "ramfs") || record.is_read_only_by_option() {
            return Ok(());
        }
        // What has to be mounted for that is mounted only where there is something to copy.
        if !self.is_plain(record) && !content.has(&wanted.target, wanted.over_directory)? {
            return Ok(());
        }
        let turn = self
            .book()
            .entries
            .get(&record.name)
            .map(|e| Arc::clone(&e.turn))
            .unwrap_or_default();
        let filled = {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            let driver = self.driver(record)?;
            let source = driver.mount(record)?;
            let directory = berth_sys::fs::metadata(&source.path).is_ok_and(|m| m.is_dir());
            if directory {
                driver
                    .open(record)
                    .and_then(|volume| content.fill(&wanted.target, wanted.over_directory, &volume))
            } else {
                Ok(())
            }
        };
        let unmounted = self.unmount_unused(record);
        filled.and(unmounted)
    }
}
