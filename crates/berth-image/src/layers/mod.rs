//! Unpacked layers, each a directory that overlayfs stacks.
//!
//! ```text
//! layers/overlay/
//! ├── <id>/            one layer, named by an own short id so that many fit into a mount
//! ├── base/            what every container has below its image
//! ├── empty/           the lower directory of images without layers
//! ├── staging/<n>/     layers being unpacked; thrown away at open
//! ├── containers/<id>/ upper and work directory of a container ([`crate::rootfs`])
//! └── trash/           waiting for deletion
//! ```
//!
//! Owns: these directories except `containers`, and which layers are there. A layer is known by its chain id,
//! so images that begin alike share directories. Does not own: which images need a layer.
//!
//! Invariants: a directory gets its final name only complete and verified, and never changes afterwards. A
//! layer that no record knows at open may have been cut by a power failure and is thrown away; records are
//! committed only after a durability barrier.

pub mod unpack;

mod adopt;
mod base;
pub(crate) mod capture;
pub(crate) mod changes;
mod compare;
mod delta;
pub(crate) mod tree;
pub(crate) mod view;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_sys::fs;
use berth_types::Digest;
use serde::{Deserialize, Serialize};

pub(crate) use adopt::copy_attributes;
pub use changes::{Change, ChangeKind};
pub(crate) use tree::remove_recursively;
pub use unpack::Unpacked;

use crate::archive::ArchiveReader;
use crate::error::{Attempt, ImageError, Result, unwrap_carried};
use crate::limits;
use crate::stream;
use crate::trash::Trash;

/// Schema of [`LayerRecord`].
pub(crate) const LAYER_SCHEMA: u32 = 1;

/// Name of the layer below all others.
const BASE: &str = "base";

/// What is kept about a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Schema number of the record.
    pub schema: u32,
    /// Name of its directory.
    pub directory: String,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Chain id of the layer below.
    pub parent: Option<Digest>,
    /// Bytes of its regular files.
    pub size: u64,
    /// It hides everything below.
    #[serde(default)]
    pub opaque_root: bool,
    /// The content it was unpacked from.
    #[serde(default)]
    pub blob: Option<Digest>,
}

#[derive(Debug, Default)]
struct Live {
    record: Option<LayerRecord>,
    leases: usize,
}

/// The layers that are there or held, by chain id.
#[derive(Debug, Default)]
struct Known {
    layers: HashMap<Digest, Live>,
    /// How many of them came from each archive.
    archives: HashMap<Digest, usize>,
}

impl Known {
    fn put(&mut self, chain: Digest, record: LayerRecord) {
        if let Some(blob) = record.blob {
            *self.archives.entry(blob).or_default() += 1;
        }
        self.layers.entry(chain).or_default().record = Some(record);
    }

    fn take(&mut self, chain: &Digest) -> Option<LayerRecord> {
        let record = self.layers.remove(chain)?.record?;
        if let Some(blob) = &record.blob
            && let Some(count) = self.archives.get_mut(blob)
        {
            *count -= 1;
            if *count == 0 {
                self.archives.remove(blob);
            }
        }
        Some(record)
    }
}

type Table = Arc<Mutex<Known>>;

fn lock(table: &Mutex<Known>) -> MutexGuard<'_, Known> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a layer from being removed for as long as it lives, whether it exists yet or not.
#[derive(Debug)]
pub struct LayerLease {
    chain: Digest,
    table: Table,
}

impl Drop for LayerLease {
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        if let Some(live) = table.layers.get_mut(&self.chain) {
            live.leases -= 1;
            if live.leases == 0 && live.record.is_none() {
                table.layers.remove(&self.chain);
            }
        }
    }
}

/// The unpacked layers of all images.
#[derive(Debug)]
pub struct LayerStore {
    directory: PathBuf,
    table: Table,
    next: AtomicU64,
    pub(crate) trash: Arc<Trash>,
}

/// A layer being unpacked; dropped before it is committed, it leaves nothing.
pub(crate) struct Staging {
    trash: Arc<Trash>,
    path: PathBuf,
    root: OwnedFd,
    done: bool,
}

/// A layer that was unpacked and verified, not yet fitted to what is below.
pub(crate) struct Staged {
    staging: Staging,
    pub(crate) unpacked: Unpacked,
    pub(crate) diff_id: Digest,
}

impl LayerStore {
    /// Opens the store beneath `root` with the layers that records know.
    pub(crate) fn open(
        root: &Path,
        records: impl IntoIterator<Item = (Digest, LayerRecord)>,
    ) -> Result<Self> {
        let directory = root.join("layers").join("overlay");
        for name in ["staging", "empty", "containers"] {
            fs::create_dir_all_mode(&directory.join(name), 0o700)?;
        }
        // Seen as the root of an image without layers.
        fs::set_mode(&directory.join("empty"), 0o755)?;
        base::make(&directory.join(BASE))?;
        let trash = Arc::new(Trash::open(directory.join("trash"))?);
        let mut table = Known::default();
        let mut known = std::collections::HashSet::new();
        for (chain, record) in records {
            known.insert(record.directory.clone());
            table.put(chain, record);
        }
        for name in fs::list(&directory.join("staging"))? {
            trash.throw(&directory.join("staging").join(name))?;
        }
        for name in fs::list(&directory)? {
            let text = name.to_string_lossy();
            if !known.contains(&*text) && is_layer_name(&text) {
                trash.throw(&directory.join(&name))?;
            }
        }
        Ok(Self {
            directory,
            table: Arc::new(Mutex::new(table)),
            next: AtomicU64::new(0),
            trash,
        })
    }

    /// `layers/overlay`.
    #[must_use]
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The layer of a chain id, when it is there.
    #[must_use]
    pub fn get(&self, chain: &Digest) -> Option<LayerRecord> {
        lock(&self.table).layers.get(chain)?.record.clone()
    }

    /// Holds a chain id: the layer stays, or stays once it comes.
    #[must_use]
    pub fn lease(&self, chain: Digest) -> LayerLease {
        lock(&self.table).layers.entry(chain).or_default().leases += 1;
        LayerLease {
            chain,
            table: self.table.clone(),
        }
    }

    /// Directories of a stack of layers, topmost first, without those that an upper one hides whole.
    ///
    /// # Errors
    /// When a layer is not there.
    pub fn directories(&self, chain: &[Digest]) -> Result<Vec<PathBuf>> {
        let table = lock(&self.table);
        let mut directories = Vec::with_capacity(chain.len());
        for id in chain.iter().rev() {
            let record = table
                .layers
                .get(id)
                .and_then(|live| live.record.as_ref())
                .ok_or_else(|| ImageError::NoSuchImage {
                    reference: format!("layer {}", id.short()),
                })?;
            directories.push(self.directory.join(&record.directory));
            if record.opaque_root {
                break;
            }
        }
        Ok(directories)
    }

    /// The layer below all layers of a container.
    #[must_use]
    pub(crate) fn base(&self) -> PathBuf {
        self.directory.join(BASE)
    }

    /// Begins a layer.
    pub(crate) fn stage(&self) -> Result<Staging> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let path = self.directory.join("staging").join(number.to_string());
            match fs::create_dir(&path, 0o700) {
                Ok(()) => {
                    let root = fs::open_directory(&path)?;
                    return Ok(Staging {
                        trash: self.trash.clone(),
                        path,
                        root,
                        done: false,
                    });
                }
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Unpacks a layer from a stream that may be compressed, on this thread and a second one.
    ///
    /// The stream is read to its end, so that the caller's own digest of it is complete.
    pub(crate) fn unpack(&self, source: impl std::io::Read + Send, object: &str) -> Result<Staged> {
        let staging = self.stage()?;
        let root = rustix::io::fcntl_dupfd_cloexec(&staging.root, 0)
            .attempt(|| format!("unpack {object}"))?;
        let (sender, reader) = stream::pipe();
        let (unpacked, diff_id) = std::thread::scope(|scope| {
            let worker = std::thread::Builder::new()
                .name("decompress".into())
                .spawn_scoped(scope, move || -> Result<()> {
                    let source = stream::decompressed(source, object, limits::LAYER_BYTES_MAX)?;
                    sender.send_all(source);
                    Ok(())
                })
                .attempt(|| format!("unpack {object}"))?;
            let mut archive = ArchiveReader::new(reader, object, limits::LAYER_ENTRIES_MAX);
            let unpacked = unpack::unpack(&mut archive, root, object);
            // On failure the reader is dropped here, which ends the worker.
            let outcome = unpacked.and_then(|unpacked| {
                let (digest, _) = archive
                    .into_source()
                    .finish()
                    .map_err(|error| unwrap_carried(|| format!("read {object}"), error))?;
                Ok((unpacked, digest))
            });
            match worker.join() {
                Ok(Ok(())) => outcome,
                Ok(Err(error)) => Err(error),
                Err(_) => Err(ImageError::Cancelled {
                    attempt: format!("decompress {object}"),
                }),
            }
        })?;
        Ok(Staged {
            staging,
            unpacked,
            diff_id,
        })
    }

    /// Fits a layer to the ones below it and gives it its place. `below` are the chain ids under it, lowest
    /// first. When another transfer was faster, that one's layer stays.
    pub(crate) fn commit(
        &self,
        staged: Staged,
        chain: Digest,
        below: &[Digest],
        blob: Option<Digest>,
    ) -> Result<LayerRecord> {
        let lower = self.directories(below)?;
        adopt::adopt(&staged.staging.root, &lower, &staged.unpacked.implied)?;
        let mut table = lock(&self.table);
        if let Some(record) = table
            .layers
            .get(&chain)
            .and_then(|live| live.record.as_ref())
        {
            return Ok(record.clone());
        }
        let directory = self.unused_name()?;
        let mut staging = staged.staging;
        fs::rename(&staging.path, &self.directory.join(&directory))?;
        staging.done = true;
        let record = LayerRecord {
            schema: LAYER_SCHEMA,
            directory,
            diff_id: staged.diff_id,
            parent: below.last().copied(),
            size: staged.unpacked.size,
            opaque_root: staged.unpacked.opaque_root,
            blob,
        };
        table.put(chain, record.clone());
        Ok(record)
    }

    /// Twelve random hexadecimal digits that no directory has.
    fn unused_name(&self) -> Result<String> {
        loop {
            let mut bytes = [0_u8; 6];
            rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
                .attempt(|| "name a layer's directory")?;
            let name = bytes.iter().fold(String::with_capacity(12), |text, byte| {
                format!("{text}{byte:02x}")
            });
            if !fs::exists(&self.directory.join(&name)) {
                return Ok(name);
            }
        }
    }

    /// Removes a layer unless it is leased; gives the record of one that went.
    pub(crate) fn remove(&self, chain: &Digest) -> Result<Option<LayerRecord>> {
        let mut table = lock(&self.table);
        if table.layers.get(chain).is_none_or(|live| live.leases > 0) {
            return Ok(None);
        }
        let Some(record) = table.take(chain) else {
            return Ok(None);
        };
        self.trash.throw(&self.directory.join(&record.directory))?;
        Ok(Some(record))
    }

    /// Chain ids by the names of their directories.
    pub(crate) fn directory_names(&self) -> HashMap<String, Digest> {
        lock(&self.table)
            .layers
            .iter()
            .filter_map(|(chain, live)| Some((live.record.as_ref()?.directory.clone(), *chain)))
            .collect()
    }

    /// Puts a layer that was unpacked again in the place of a damaged one. Gives the new record, and the directory
    /// that nothing refers to any more.
    pub(crate) fn replace(
        &self,
        staged: Staged,
        chain: &Digest,
        below: &[Digest],
    ) -> Result<Option<(LayerRecord, PathBuf)>> {
        let lower = self.directories(below)?;
        adopt::adopt(&staged.staging.root, &lower, &staged.unpacked.implied)?;
        let mut table = lock(&self.table);
        let Some(record) = table
            .layers
            .get_mut(chain)
            .and_then(|live| live.record.as_mut())
        else {
            return Ok(None);
        };
        let directory = self.unused_name()?;
        let mut staging = staged.staging;
        fs::rename(&staging.path, &self.directory.join(&directory))?;
        staging.done = true;
        let former = std::mem::replace(&mut record.directory, directory);
        record.size = staged.unpacked.size;
        record.opaque_root = staged.unpacked.opaque_root;
        Ok(Some((record.clone(), self.directory.join(former))))
    }

    /// Compares a layer with what its archive unpacks to; tells the first difference.
    pub(crate) fn compare(
        &self,
        staged: &Staged,
        chain: &Digest,
        below: &[Digest],
    ) -> Result<Option<String>> {
        let lower = self.directories(below)?;
        adopt::adopt(&staged.staging.root, &lower, &staged.unpacked.implied)?;
        let Some(record) = self.get(chain) else {
            return Ok(None);
        };
        let actual = fs::open_directory(&self.directory.join(record.directory))?;
        compare::difference(&staged.staging.root, &actual)
    }

    /// Whether a layer that is here was unpacked from this archive.
    pub(crate) fn come_from(&self, archive: &Digest) -> bool {
        lock(&self.table).archives.contains_key(archive)
    }
}

/// Only names that we give are ever thrown away.
fn is_layer_name(name: &str) -> bool {
    name.len() == 12 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be thrown away now is at the next open.
            let _ = self.trash.throw(&self.path);
        }
    }
}
