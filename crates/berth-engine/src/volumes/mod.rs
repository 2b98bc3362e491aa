//! Volumes: which there are, what is in them, and who holds them.
//!
//! Owns the records of volumes, their directories through a [`VolumeDriver`], and the book of who holds which. Does
//! not know containers: these say which volumes they want, when they run, and when they let go.
//!
//! Invariants: a volume is found when its record is on disk and its content complete, never before; what is removed
//! is found no more before anything of it goes; a crash between two steps is made up for by the next engine, in the
//! direction that the record tells; a volume that a container holds is not removed.

mod book;
pub mod driver;
mod duplicate;
mod fill;
mod list;
pub mod local;
mod mounting;
mod prepare;
pub mod record;
mod recover;
mod remote;
pub mod request;
#[cfg(test)]
mod tests;
mod transfer;
pub mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_image::ImageStore;
use berth_types::ContainerId;
use indexmap::IndexMap;
use tokio::sync::{Semaphore, watch};

use self::book::{Book, Claim, Entry, Stage};
use self::driver::VolumeDriver;
use crate::clock;
use crate::error::EngineError;
use crate::events::{EventKind, Events};
use crate::filters::Filters;
use crate::limits;
use crate::random;
use crate::records::Records;

pub use duplicate::VolumeCopyRequest;
pub(crate) use mounting::{MountAsk, MountSources, Purpose};
pub(crate) use prepare::Prepared;
pub use record::{ANONYMOUS_LABEL, LOCAL, Origin, VolumeRecord};
pub use request::VolumeCreateRequest;
pub(crate) use request::Wanted;
pub use transfer::VolumeExport;
pub use view::{VolumeUsage, VolumeView, VolumesPruned};

/// The service. Cheap to clone.
///
/// A volume is found by its name. Every operation that changes something goes on when its caller hangs up.
#[derive(Debug, Clone)]
pub struct Volumes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    drivers: BTreeMap<&'static str, Arc<dyn VolumeDriver>>,
    records: Records,
    events: Events,
    images: ImageStore,
    /// Work that blocks.
    calls: Semaphore,
    /// Work that mounts, and may wait for a server.
    mounts: Semaphore,
}

fn defect(error: tokio::task::JoinError) -> EngineError {
    EngineError::Internal(format!("a defect in the engine: {error}"))
}

/// A cause in the words of the C library and of Go, which clients look for: `no such file or directory`.
fn lower_case(cause: std::io::Error) -> std::io::Error {
    let Some(number) = cause.raw_os_error() else {
        return cause;
    };
    let text = cause.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    let first: String = letters
        .next()
        .into_iter()
        .flat_map(char::to_lowercase)
        .collect();
    let kind = std::io::Error::from_raw_os_error(number).kind();
    std::io::Error::new(kind, first + letters.as_str())
}

fn random_name() -> Result<String, EngineError> {
    Ok(berth_types::ContainerId::from_random(random::bytes()?)
        .as_str()
        .to_owned())
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Changes of the book are small and complete; a panic elsewhere leaves it whole.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn driver(&self, record: &VolumeRecord) -> Result<&Arc<dyn VolumeDriver>, EngineError> {
        self.driver_named(&record.driver)
    }

    fn driver_named(&self, name: &str) -> Result<&Arc<dyn VolumeDriver>, EngineError> {
        self.drivers.get(name).ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            EngineError::NotFound(format!(
                "error looking up volume plugin {shown}: plugin {shown:?} not found"
            ))
        })
    }

    fn is_plain(&self, record: &VolumeRecord) -> bool {
        self.driver(record).is_ok_and(|d| d.is_plain(record))
    }

    fn view(&self, entry: &Entry) -> VolumeView {
        let record = Arc::clone(&entry.record);
        VolumeView {
            mountpoint: self
                .driver(&record)
                .map(|d| d.mountpoint(&record.name))
                .unwrap_or_default(),
            users: entry.users.keys().cloned().collect(),
            record,
        }
    }

    /// Runs work that blocks, a few at a time.
    async fn block<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        self.block_in(&self.calls, work).await
    }

    /// Runs work on the content of these volumes. What has to be mounted may be a server's that does not answer, so
    /// it waits apart: volumes that need no mount are not kept waiting by it.
    async fn block_on<'a, T: Send + 'static>(
        self: &Arc<Self>,
        records: impl IntoIterator<Item = &'a Arc<VolumeRecord>>,
        work: impl FnOnce(&Self) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let plain = records.into_iter().all(|record| self.is_plain(record));
        let places = if plain { &self.calls } else { &self.mounts };
        self.block_in(places, work).await
    }

    async fn block_in<T: Send + 'static>(
        self: &Arc<Self>,
        places: &Semaphore,
        work: impl FnOnce(&Self) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let _place = places.acquire().await;
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&shared))
            .await
            .map_err(defect)?
    }

    fn announce(&self, action: &str, record: &VolumeRecord, further: &[(&str, String)]) {
        let mut attributes: IndexMap<String, String> = IndexMap::new();
        for (key, value) in further {
            attributes.insert((*key).to_owned(), value.clone());
        }
        attributes.insert("driver".to_owned(), record.driver.clone());
        self.events
            .publish(EventKind::Volume, action, &record.name, attributes);
    }
}

impl Volumes {
    /// The volumes of the records. What a crash left half done is done or undone first.
    ///
    /// # Errors
    /// When the records cannot be read or written.
    pub(crate) async fn open(
        records: Records,
        events: Events,
        images: ImageStore,
        driver: Arc<dyn VolumeDriver>,
    ) -> Result<Self, EngineError> {
        let shared = Arc::new(Shared {
            book: Mutex::default(),
            drivers: BTreeMap::from([(driver.name(), driver)]),
            records,
            events,
            images,
            calls: Semaphore::new(limits::VOLUME_CALLS_AT_ONCE),
            mounts: Semaphore::new(limits::VOLUME_MOUNTS_AT_ONCE),
        });
        recover::run(&shared).await?;
        Ok(Self { shared })
    }

    /// Names of drivers.
    #[must_use]
    pub fn drivers(&self) -> Vec<String> {
        let names = self.shared.drivers.keys();
        names.map(|name| (*name).to_owned()).collect()
    }

    /// Makes a volume, or gives the one that is there. Durable when it answers.
    ///
    /// # Errors
    /// `Conflict` when there is one of another driver or with other options, `Invalid` for what makes no sense.
    pub async fn create(&self, request: VolumeCreateRequest) -> Result<VolumeView, EngineError> {
        let shared = Arc::clone(&self.shared);
        // In a task of its own: a caller that hangs up does not leave half a volume.
        tokio::spawn(async move {
            let record = shared.ensure(request, None).await?;
            let book = shared.book();
            Ok(shared.view(book.find(&record.name)?))
        })
        .await
        .map_err(defect)?
    }

    /// A volume.
    ///
    /// # Errors
    /// `NotFound` when there is no such volume.
    pub fn inspect(&self, name: &str) -> Result<VolumeView, EngineError> {
        let book = self.shared.book();
        Ok(self.shared.view(book.find(name)?))
    }

    /// Volumes that pass the filters `dangling`, `driver`, `label`, `name`.
    ///
    /// # Errors
    /// When a filter makes no sense.
    pub fn list(&self, filters: &Filters) -> Result<Vec<VolumeView>, EngineError> {
        let wanted = list::wanted(filters)?;
        Ok(self
            .views()
            .into_iter()
            .filter(|view| wanted(view))
            .collect())
    }

    fn views(&self) -> Vec<VolumeView> {
        let book = self.shared.book();
        let entries = book.entries.values();
        entries
            .filter(|e| !matches!(e.stage, Stage::Making(_)))
            .map(|e| self.shared.view(e))
            .collect()
    }

    /// Every volume with what it occupies, taken out of what was measured of the directories of volumes; what is left
    /// there belongs to none that has its content in its directory.
    pub(crate) fn usage(&self, measured: &mut HashMap<String, u64>) -> Vec<VolumeUsage> {
        self.views()
            .into_iter()
            .map(|view| VolumeUsage {
                size: self
                    .shared
                    .is_plain(&view.record)
                    .then(|| measured.remove(&view.record.name).unwrap_or(0)),
                view,
            })
            .collect()
    }

    /// Volumes whose content should be in a directory of the data root and is not, and how many there are in all.
    pub(crate) fn without_content(&self) -> (usize, Vec<VolumeView>) {
        let views = self.views();
        let count = views.len();
        let missing = views
            .into_iter()
            .filter(|view| {
                let is_there =
                    || berth_sys::fs::symlink_metadata(&view.mountpoint).is_ok_and(|m| m.is_dir());
                self.shared.is_plain(&view.record)
                    && !is_there()
                    // Removed while it was looked at.
                    && self.inspect(&view.record.name).is_ok()
            })
            .collect();
        (count, missing)
    }

    /// Removes a volume that nobody holds. With `force` one that is not there is fine.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when a container holds it.
    pub async fn remove(&self, name: &str, force: bool) -> Result<(), EngineError> {
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        let removed = tokio::spawn(async move { shared.remove(&name).await })
            .await
            .map_err(defect)?;
        match removed {
            Err(EngineError::NotFound(_)) if force => Ok(()),
            other => other,
        }
    }

    /// Removes volumes that nobody holds and nobody gave a name; with the filter `all` named ones, too. Filters:
    /// `all`, `label`, `label!`.
    ///
    /// # Errors
    /// When a filter makes no sense.
    pub async fn prune(&self, filters: &Filters) -> Result<VolumesPruned, EngineError> {
        let wanted = list::prunable(filters)?;
        let mut pruned = VolumesPruned::default();
        for view in self.views().into_iter().filter(|v| wanted(v)) {
            let record = Arc::clone(&view.record);
            let size = self
                .shared
                .block(move |shared| Ok(shared.measure(&record)))
                .await?;
            // Held since, or removed since: no failure of the prune.
            if self.remove(&view.record.name, false).await.is_ok() {
                pruned.reclaimed += size.unwrap_or(0);
                pruned.removed.push(view.record.name.clone());
            }
        }
        self.shared.events.publish(
            EventKind::Volume,
            "prune",
            "",
            IndexMap::from([("reclaimed".to_owned(), pruned.reclaimed.to_string())]),
        );
        Ok(pruned)
    }

    /// Notes that a stored container holds volumes, those it may write to with `true`.
    pub(crate) fn hold(&self, container: &ContainerId, held: &[(String, bool)]) {
        let mut book = self.shared.book();
        for (name, writable) in held {
            if let Some(entry) = book.entries.get_mut(name) {
                let used = entry.users.entry(container.clone()).or_default();
                used.writable |= *writable;
            }
        }
    }

    /// A container is gone: its holds end, and the volumes that are only its own are removed. Idempotent.
    ///
    /// # Errors
    /// When one cannot be unmounted or removed.
    pub(crate) async fn let_go(
        &self,
        container: &ContainerId,
        names: &[String],
        own: &[String],
    ) -> Result<(), EngineError> {
        if names.is_empty() {
            return Ok(());
        }
        self.unmount(container, names, Purpose::Run).await?;
        {
            let mut book = self.shared.book();
            for name in names {
                book.let_go(name, container);
            }
        }
        let mut outcome = Ok(());
        for name in own {
            match self.remove(name, true).await {
                // Another container took it over, and holds it.
                Ok(()) | Err(EngineError::Conflict(_)) => {}
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }
}

impl Shared {
    /// The volume that is asked for, made where it is not there; held for the container where one is given.
    async fn ensure(
        self: &Arc<Self>,
        request: VolumeCreateRequest,
        holder: Option<(&ContainerId, bool)>,
    ) -> Result<Arc<VolumeRecord>, EngineError> {
        let record = self.plan(request)?;
        let asked = Arc::clone(&record);
        let decided = loop {
            let claim = self
                .book()
                .claim(&record.name, holder, || Arc::clone(&record))?;
            match claim {
                Claim::There(found) => {
                    if let Err(error) = suits(&found, &asked) {
                        if let Some((container, _)) = holder {
                            self.book().let_go(&found.name, container);
                        }
                        return Err(error);
                    }
                    return Ok(found);
                }
                Claim::Wait(mut decided) => {
                    // It ends with an error when the maker is done, whatever came of it.
                    let _ = decided.changed().await;
                }
                Claim::Free(sender) => break sender,
            }
        };
        let made = self.make(&record).await;
        self.decide(&record, made, holder, decided).await?;
        self.announce("create", &record, &[]);
        Ok(record)
    }

    /// Checks a request and makes a record of it.
    fn plan(&self, request: VolumeCreateRequest) -> Result<Arc<VolumeRecord>, EngineError> {
        let VolumeCreateRequest {
            mut name,
            driver,
            options,
            mut labels,
        } = request;
        if name.is_empty() {
            name = random_name()?;
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let driver = if driver.is_empty() {
            LOCAL.to_owned()
        } else {
            driver
        };
        let shown: String = name.chars().take(256).collect();
        let keeper = self.driver_named(&driver).map_err(|error| match error {
            EngineError::NotFound(text) => EngineError::NotFound(format!("create {shown}: {text}")),
            other => other,
        })?;
        keeper.check(&name, &options)?;
        Ok(Arc::new(VolumeRecord {
            driver,
            options,
            labels,
            ..VolumeRecord::new(name, clock::now())
        }))
    }

    async fn make(self: &Arc<Self>, record: &Arc<VolumeRecord>) -> Result<(), EngineError> {
        if self.book().entries.len() > limits::VOLUMES_MAX {
            return Err(EngineError::Forbidden(format!(
                "there are {} volumes already, which is the most",
                limits::VOLUMES_MAX
            )));
        }
        let of_driver = Arc::clone(record);
        self.block(move |shared| {
            let driver = shared.driver(&of_driver)?;
            driver.prepare(&of_driver.name).map(drop)
        })
        .await?;
        self.write_and_publish(record).await
    }

    /// Writes the record of a prepared volume, and gives the volume its name.
    async fn write_and_publish(
        self: &Arc<Self>,
        record: &Arc<VolumeRecord>,
    ) -> Result<(), EngineError> {
        let ticket = self.records.insert_volume(record).await?;
        ticket.durable().await?;
        let of_driver = Arc::clone(record);
        self.block(move |shared| shared.driver(&of_driver)?.publish(&of_driver.name))
            .await
    }

    /// Makes a claimed volume ready, or takes back what there is of it.
    async fn decide(
        self: &Arc<Self>,
        record: &Arc<VolumeRecord>,
        made: Result<(), EngineError>,
        holder: Option<(&ContainerId, bool)>,
        decided: watch::Sender<()>,
    ) -> Result<(), EngineError> {
        if let Err(error) = made {
            let gone = async {
                let ticket = self.records.remove_volume(&record.name).await?;
                ticket.durable().await
            };
            if let Err(error) = gone.await {
                tracing::debug!(volume = record.name, error = %error.full_text(), "the record of a volume that was not made stays");
            }
            let of_driver = Arc::clone(record);
            let _ = self
                .block(move |shared| {
                    let driver = shared.driver(&of_driver)?;
                    driver.conceal(&of_driver.name)?;
                    driver.discard(&of_driver.name)
                })
                .await;
            self.book().entries.remove(&record.name);
            return Err(error);
        }
        if let Some(entry) = self.book().entries.get_mut(&record.name) {
            entry.stage = Stage::Ready;
            if let Some((container, writable)) = holder {
                let used = entry.users.entry(container.clone()).or_default();
                used.writable |= writable;
            }
        }
        drop(decided);
        Ok(())
    }

    async fn remove(self: &Arc<Self>, name: &str) -> Result<(), EngineError> {
        let record = {
            let mut book = self.book();
            let entry = book.find_quiet(name)?;
            if !entry.users.is_empty() {
                let users: Vec<&str> = entry.users.keys().map(ContainerId::as_str).collect();
                return Err(EngineError::Conflict(format!(
                    "remove {name}: volume is in use - [{}]",
                    users.join(", ")
                )));
            }
            entry.stage = Stage::Busy("removed");
            Arc::clone(&entry.record)
        };
        let of_driver = Arc::clone(&record);
        let removed = async {
            self.block_on([&record], move |shared| {
                let driver = shared.driver(&of_driver)?;
                driver.unmount(&of_driver)?;
                driver.conceal(&of_driver.name)
            })
            .await?;
            let ticket = self.records.remove_volume(name).await?;
            ticket.durable().await
        }
        .await;
        let of_driver = Arc::clone(&record);
        if let Err(error) = removed {
            // Its record stays, so it stays: whatever was taken out of sight comes back.
            let _ = self
                .block(move |shared| shared.driver(&of_driver)?.reveal(&of_driver.name))
                .await;
            if let Some(entry) = self.book().entries.get_mut(name) {
                entry.stage = Stage::Ready;
            }
            return Err(error);
        }
        let discarded = self
            .block(move |shared| shared.driver(&of_driver)?.discard(&of_driver.name))
            .await;
        self.book().entries.remove(name);
        self.announce("destroy", &record, &[]);
        if let Err(error) = discarded {
            // The volume is gone; what is left of it goes when the next engine starts.
            tracing::debug!(volume = name, error = %error.full_text(), "what is left of a volume stays for now");
        }
        Ok(())
    }

    /// Bytes of a volume's files, where they are in a directory of ours. Blocks.
    fn measure(&self, record: &VolumeRecord) -> Option<u64> {
        let driver = self.driver(record).ok()?;
        if !driver.is_plain(record) {
            return None;
        }
        berth_image::rootfs::tree_size(&driver.mountpoint(&record.name)).ok()
    }
}

/// Whether a volume that is there is the one that is asked for.
fn suits(found: &VolumeRecord, asked: &VolumeRecord) -> Result<(), EngineError> {
    if found.driver != asked.driver {
        return Err(EngineError::Conflict(format!(
            "create {}: conflict: volume name must be unique",
            found.name
        )));
    }
    if !asked.options.is_empty() && asked.options != found.options {
        let shown: Vec<String> = found
            .options
            .iter()
            .map(|(key, value)| format!("{key}={}", remote::shown(value)))
            .collect();
        let has = match shown.as_slice() {
            [] => "without options".to_owned(),
            shown => format!("with the options {}", shown.join(" ")),
        };
        return Err(EngineError::Conflict(format!(
            "create {}: conflict: there is a volume of this name {has}",
            found.name
        )));
    }
    Ok(())
}
