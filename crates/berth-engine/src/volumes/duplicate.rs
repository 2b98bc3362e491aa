//! Copies of volumes under other names, and other names for volumes.
//!
//! A copy is made where nobody finds it, and gets its name with its record: half a copy is never a volume. While it
//! is made, nothing starts with the source; what runs with it is the caller's choice.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};

use berth_image::copy;
use berth_types::ContainerId;
use indexmap::IndexMap;

use super::book::{self, Claim, Entry, Stage};
use super::record::{ANONYMOUS_LABEL, Origin, VolumeRecord};
use super::view::VolumeView;
use super::{Shared, Volumes, defect};
use crate::clock;
use crate::error::EngineError;

/// A copy that shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeCopyRequest {
    /// The volume to copy.
    pub from: String,
    /// The new volume's name; empty for one made of the other's name and the time.
    pub to: String,
    /// Labels of the new volume; `None` for those of the other.
    pub labels: Option<IndexMap<String, String>>,
    /// Whether containers can only read the copy.
    pub read_only: bool,
    /// Whether it is copied although running containers can write to it.
    pub live: bool,
}

impl Volumes {
    /// Copies a volume. Durable when it answers. `still` are containers that run and cannot write now.
    ///
    /// # Errors
    /// `Conflict` when the name is in use, or a running container can write to the source.
    pub(crate) async fn copy(
        &self,
        request: VolumeCopyRequest,
        still: HashSet<ContainerId>,
    ) -> Result<VolumeView, EngineError> {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { shared.copy(request, still).await })
            .await
            .map_err(defect)?
    }

    /// Running containers that can write to a volume.
    ///
    /// # Errors
    /// `NotFound` when there is no such volume.
    pub(crate) fn writers(&self, name: &str) -> Result<Vec<ContainerId>, EngineError> {
        Ok(self.shared.book().find(name)?.writers())
    }

    /// Gives a volume that no container holds another name. Durable when it answers.
    ///
    /// # Errors
    /// `Conflict` when the name is in use, or a container holds the volume.
    pub async fn rename(&self, from: &str, to: &str) -> Result<VolumeView, EngineError> {
        let shared = Arc::clone(&self.shared);
        let (from, to) = (from.to_owned(), to.to_owned());
        tokio::spawn(async move { shared.rename(&from, &to).await })
            .await
            .map_err(defect)?
    }
}

impl Entry {
    fn writers(&self) -> Vec<ContainerId> {
        self.users
            .iter()
            .filter(|(_, used)| used.mounted && used.writable)
            .map(|(container, _)| container.clone())
            .collect()
    }
}

fn taken(name: &str) -> EngineError {
    EngineError::Conflict(format!(
        "create {name}: conflict: there is a volume of this name"
    ))
}

/// `name-20240131-235959`.
fn name_by_time(name: &str) -> String {
    let digits: String = clock::now()
        .to_string()
        .chars()
        .take(19)
        .filter(char::is_ascii_digit)
        .collect();
    let (day, time) = digits.split_at(digits.len().min(8));
    format!("{name}-{day}-{time}")
}

impl Shared {
    async fn copy(
        self: &Arc<Self>,
        request: VolumeCopyRequest,
        still: HashSet<ContainerId>,
    ) -> Result<VolumeView, EngineError> {
        let VolumeCopyRequest {
            from,
            to,
            labels,
            read_only,
            live,
        } = request;
        let source = Arc::clone(&self.book().find_quiet(&from)?.record);
        let at = clock::now();
        let name = if to.is_empty() {
            name_by_time(&from)
        } else {
            to
        };
        self.driver(&source)?.check(&name, &IndexMap::new())?;
        let labels = labels.unwrap_or_else(|| {
            let mut labels = source.labels.clone();
            labels.shift_remove(ANONYMOUS_LABEL);
            labels
        });
        let record = Arc::new(VolumeRecord {
            labels,
            read_only,
            origin: Some(Origin { volume: from, at }),
            ..VolumeRecord::new(name, at)
        });
        let (of_copy, of_source) = (Arc::clone(&record), Arc::clone(&source));
        self.make_with(record, Some(&source), move |shared, root| {
            shared.copy_content(&of_source, &of_copy.name, root, live, &still)
        })
        .await
    }

    /// Makes a volume whose content `fill` writes, out of another where there is one. The name must be free.
    pub(super) async fn make_with(
        self: &Arc<Self>,
        record: Arc<VolumeRecord>,
        source: Option<&Arc<VolumeRecord>>,
        fill: impl FnOnce(&Self, OwnedFd) -> Result<(), EngineError> + Send + 'static,
    ) -> Result<VolumeView, EngineError> {
        let claim = self
            .book()
            .claim(&record.name, None, || Arc::clone(&record))?;
        let decided = match claim {
            Claim::Free(decided) => decided,
            Claim::There(_) | Claim::Wait(_) => return Err(taken(&record.name)),
        };
        let of_driver = Arc::clone(&record);
        let made = async {
            self.block_on(source, move |shared| {
                let root = shared.driver(&of_driver)?.prepare(&of_driver.name)?;
                let kept = root
                    .try_clone()
                    .map_err(|e| EngineError::io("open the root of a volume", e))?;
                fill(shared, root)?;
                // It is promised when the answer says so, and a loss of power must not take it back.
                rustix::fs::syncfs(&kept)
                    .map_err(|e| EngineError::io("write a volume to the disk", e.into()))
            })
            .await?;
            self.write_and_publish(&record).await
        }
        .await;
        self.decide(&record, made, None, decided).await?;
        self.announce("create", &record, &[]);
        let book = self.book();
        Ok(self.view(book.find(&record.name)?))
    }

    /// Copies one volume's content into a new one's root. Blocks; what starts with the source waits meanwhile.
    fn copy_content(
        &self,
        source: &Arc<VolumeRecord>,
        name: &str,
        root: OwnedFd,
        live: bool,
        still: &HashSet<ContainerId>,
    ) -> Result<(), EngineError> {
        self.with_content(source, live, still, |from| {
            copy::copy_tree(from, root).map_err(|error| {
                let kind = error.kind();
                EngineError::failed(
                    format!("copy volume {} to {name}", source.name),
                    kind,
                    error,
                )
            })?;
            Ok(())
        })
    }

    /// Opens a volume's content for reading while nothing starts with it. Blocks.
    pub(super) fn with_content<T>(
        &self,
        source: &Arc<VolumeRecord>,
        live: bool,
        still: &HashSet<ContainerId>,
        work: impl FnOnce(&OwnedFd) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let turn = Arc::clone(&self.book().find(&source.name)?.turn);
        let done = {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            if !live {
                self.check_still(&source.name, still)?;
            }
            let driver = self.driver(source)?;
            driver.mount(source)?;
            driver.open(source).and_then(|volume| {
                super::fill::finish(&volume)?;
                work(&volume.root)
            })
        };
        let unmounted = self.unmount_unused(source);
        let value = done?;
        unmounted?;
        Ok(value)
    }

    /// Refuses when a running container could write meanwhile.
    pub(super) fn check_still(
        &self,
        name: &str,
        still: &HashSet<ContainerId>,
    ) -> Result<(), EngineError> {
        let mut writers = self.book().find(name)?.writers();
        writers.retain(|container| !still.contains(container));
        if writers.is_empty() {
            return Ok(());
        }
        let writers: Vec<&str> = writers.iter().map(ContainerId::as_str).collect();
        Err(EngineError::Conflict(format!(
            "copy {name}: running containers can write to the volume - [{}]",
            writers.join(", ")
        )))
    }

    async fn rename(self: &Arc<Self>, from: &str, to: &str) -> Result<VolumeView, EngineError> {
        let (record, decided) = {
            let mut book = self.book();
            let entry = book.find_quiet(from)?;
            if !entry.users.is_empty() {
                let users: Vec<&str> = entry.users.keys().map(ContainerId::as_str).collect();
                return Err(EngineError::Conflict(format!(
                    "rename {from}: volume is in use - [{}]",
                    users.join(", ")
                )));
            }
            let old = Arc::clone(&entry.record);
            self.driver(&old)?.check(to, &IndexMap::new())?;
            let mut record = VolumeRecord {
                name: to.to_owned(),
                former_name: Some(from.to_owned()),
                ..(*old).clone()
            };
            // It has a name now.
            record.labels.shift_remove(ANONYMOUS_LABEL);
            let record = Arc::new(record);
            let Claim::Free(decided) = book.claim(to, None, || Arc::clone(&record))? else {
                return Err(taken(to));
            };
            if let Some(entry) = book.entries.get_mut(from) {
                entry.stage = Stage::Busy("renamed");
            }
            (record, decided)
        };
        let renamed = self.rename_now(from, &record).await;
        let mut book = self.book();
        match renamed {
            Ok(()) => {
                book.entries.remove(from);
                if let Some(entry) = book.entries.get_mut(to) {
                    entry.stage = Stage::Ready;
                }
                drop(decided);
                let view = self.view(book.find(to)?);
                drop(book);
                self.announce("rename", &record, &[("oldName", from.to_owned())]);
                Ok(view)
            }
            Err(error) => {
                book.entries.remove(to);
                if let Some(entry) = book.entries.get_mut(from) {
                    entry.stage = Stage::Ready;
                }
                drop(decided);
                Err(error)
            }
        }
    }

    async fn rename_now(
        self: &Arc<Self>,
        from: &str,
        record: &Arc<VolumeRecord>,
    ) -> Result<(), EngineError> {
        let old = Arc::clone(
            &self
                .book()
                .entries
                .get(from)
                .ok_or_else(|| book::missing(from))?
                .record,
        );
        let ticket = self.records.rename_volume(from, record).await?;
        ticket.durable().await?;
        let (of_driver, former) = (Arc::clone(record), from.to_owned());
        let moved = self
            .block_on([record], move |shared| {
                let driver = shared.driver(&of_driver)?;
                driver.unmount(&of_driver)?;
                driver.rename(&former, &of_driver.name)
            })
            .await;
        if moved.is_err() {
            // The record goes back to the name that the directory has kept.
            let back = async {
                let ticket = self.records.rename_volume(&record.name, &old).await?;
                ticket.durable().await
            };
            if let Err(error) = back.await {
                tracing::error!(volume = from, error = %error.full_text(), "a volume has its new name when the engine starts again");
            }
        }
        moved
    }
}
