//! What files occupy on the disk, as `du` counts it: allocated blocks, each file once however many names it has.
//!
//! Owns: measuring trees, and telling which of them is which content, layer or container. Containers make what is
//! measured, as deep and as wide as they like, while it is measured: one directory is open at a time, nothing is
//! followed, and what moves away meanwhile is left.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use berth_sys::fs;
use berth_types::{ContainerId, Digest};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};

use crate::error::{Attempt, Result};
use crate::store::ImageStore;

/// Bytes of one block as stat(2) counts them, whatever the file system's own blocks are.
const BLOCK: u64 = 512;

/// Measures trees. Files with several names count where they are met first.
#[derive(Debug, Default)]
pub struct Meter {
    links: HashSet<(u64, u64)>,
}

/// A directory on the way down.
struct Level {
    pending: Vec<CString>,
    identity: (u64, u64),
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Opens a directory that nothing is mounted on: what is mounted there may be a server's that does not answer.
fn open(
    base: &OwnedFd,
    name: impl rustix::path::Arg,
) -> std::result::Result<OwnedFd, rustix::io::Errno> {
    rustix::fs::openat2(
        base,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_XDEV,
    )
}

impl Meter {
    fn count(&mut self, stat: &Stat) -> u64 {
        if !is_directory(stat) && stat.st_nlink > 1 && !self.links.insert(identity(stat)) {
            return 0;
        }
        u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK
    }

    /// Bytes of a file, or of a directory with everything beneath it on the same file system; 0 when there is
    /// nothing.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn tree(&mut self, path: &Path) -> Result<u64> {
        let attempt = || format!("measure {}", path.display());
        let stat = match rustix::fs::lstat(path) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return Ok(0),
            Err(error) => return Err(error).attempt(attempt),
        };
        if !is_directory(&stat) {
            return Ok(self.count(&stat));
        }
        match fs::open_directory(path) {
            Ok(directory) => self.walk(directory).attempt(attempt),
            Err(error) if error.is_not_found() => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Self::tree`] for a directory's entry that was not counted by [`Self::level`]: one that is a directory.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn tree_beneath(&mut self, base: &Path, name: &std::ffi::OsStr) -> Result<u64> {
        let path = base.join(name);
        if directory_at(&path) {
            return self.tree(&path);
        }
        Ok(0)
    }

    /// Bytes of a directory itself and of what in it is no directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn level(&mut self, path: &Path) -> Result<u64> {
        let attempt = || format!("measure {}", path.display());
        let directory = match fs::open_directory(path) {
            Ok(directory) => directory,
            Err(error) if error.is_not_found() => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&directory).attempt(attempt)?;
        let mut total = self.count(&stat);
        self.scan(&directory, &mut total).attempt(attempt)?;
        Ok(total)
    }

    fn walk(&mut self, root: OwnedFd) -> std::result::Result<u64, rustix::io::Errno> {
        let stat = rustix::fs::fstat(&root)?;
        let device = stat.st_dev;
        let mut total = self.count(&stat);
        let mut above: Vec<Level> = Vec::new();
        let mut here = Level {
            pending: self.scan(&root, &mut total)?,
            identity: identity(&stat),
        };
        let mut directory = root;
        loop {
            if let Some(name) = here.pending.pop() {
                // Gone meanwhile, or no directory any more.
                let Ok(child) = open(&directory, &name) else {
                    continue;
                };
                let stat = rustix::fs::fstat(&child)?;
                if stat.st_dev != device {
                    continue;
                }
                total += self.count(&stat);
                let below = Level {
                    pending: self.scan(&child, &mut total)?,
                    identity: identity(&stat),
                };
                above.push(std::mem::replace(&mut here, below));
                directory = child;
                continue;
            }
            let Some(parent) = above.pop() else {
                return Ok(total);
            };
            let up = open(&directory, "..")?;
            if identity(&rustix::fs::fstat(&up)?) != parent.identity {
                // Moved elsewhere while it was measured; where that leads is none of our business.
                return Ok(total);
            }
            directory = up;
            here = parent;
        }
    }

    /// Counts what is no directory, and gives the names of those that are.
    fn scan(
        &mut self,
        directory: &OwnedFd,
        total: &mut u64,
    ) -> std::result::Result<Vec<CString>, rustix::io::Errno> {
        let mut directories = Vec::new();
        for entry in rustix::fs::Dir::read_from(directory)? {
            let Ok(entry) = entry else { break };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // Known without a look at what may be mounted there.
            if entry.file_type() == FileType::Directory {
                directories.push(name.to_owned());
                continue;
            }
            let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if is_directory(&stat) {
                directories.push(name.to_owned());
            } else {
                *total += self.count(&stat);
            }
        }
        Ok(directories)
    }
}

/// What the store occupies, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// Content.
    pub blobs: HashMap<Digest, u64>,
    /// Unpacked layers, by chain id.
    pub layers: HashMap<Digest, u64>,
    /// What each container changed, with what overlayfs keeps for it.
    pub containers: HashMap<ContainerId, u64>,
    /// The store's own directories, and what is on its way in or out.
    pub other: u64,
}

/// What one image occupies, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImageUsage {
    /// All of it: content and layers.
    pub size: u64,
    /// What other images have too.
    pub shared: u64,
}

impl StoreUsage {
    /// Bytes of content and layers, with the store's own.
    #[must_use]
    pub fn images(&self) -> u64 {
        self.blobs.values().sum::<u64>() + self.layers.values().sum::<u64>() + self.other
    }
}

impl ImageStore {
    /// Measures `blobs/` and `layers/`.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn usage(&self, meter: &mut Meter) -> Result<StoreUsage> {
        let mut usage = StoreUsage::default();
        let blobs = self.inner.root.join("blobs");
        usage.other += meter.level(&blobs)?;
        for name in fs::list(&blobs)? {
            let path = blobs.join(&name);
            if name != "sha256" {
                if directory_at(&path) {
                    usage.other += meter.tree(&path)?;
                }
                continue;
            }
            let directory = fs::open_directory(&path)?;
            usage.other += rustix::fs::fstat(&directory)
                .attempt(|| format!("measure {}", path.display()))
                .map(|stat| meter.count(&stat))?;
            for name in fs::list(&path)? {
                let bytes = meter.tree(&path.join(&name))?;
                match name.to_str().and_then(Digest::from_hex) {
                    Some(digest) => *usage.blobs.entry(digest).or_default() += bytes,
                    None => usage.other += bytes,
                }
            }
        }
        let chains = self.inner.layers.directory_names();
        let overlay = self.inner.layers.directory();
        if let Some(layers) = overlay.parent() {
            usage.other += meter.level(layers)?;
        }
        usage.other += meter.level(overlay)?;
        for name in fs::list(overlay)? {
            let path = overlay.join(&name);
            if name == "containers" {
                usage.other += meter.level(&path)?;
                for name in fs::list(&path)? {
                    let bytes = meter.tree(&path.join(&name))?;
                    match name.to_str().and_then(|name| ContainerId::parse(name).ok()) {
                        Some(id) => *usage.containers.entry(id).or_default() += bytes,
                        None => usage.other += bytes,
                    }
                }
            } else if directory_at(&path) {
                let bytes = meter.tree(&path)?;
                match name.to_str().and_then(|name| chains.get(name)) {
                    Some(chain) => *usage.layers.entry(*chain).or_default() += bytes,
                    None => usage.other += bytes,
                }
            }
        }
        Ok(usage)
    }

    /// What each image occupies, by its id.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn image_usages(&self, usage: &StoreUsage) -> Result<HashMap<Digest, ImageUsage>> {
        let parts = self.parts()?;
        let mut holders: HashMap<Part, u32> = HashMap::new();
        for part in parts.values().flatten() {
            *holders.entry(*part).or_default() += 1;
        }
        Ok(parts
            .into_iter()
            .map(|(id, parts)| {
                let mut image = ImageUsage::default();
                for part in parts {
                    let bytes = match &part {
                        Part::Blob(digest) => usage.blobs.get(digest),
                        Part::Layer(chain) => usage.layers.get(chain),
                    };
                    let bytes = bytes.copied().unwrap_or(0);
                    image.size += bytes;
                    if holders.get(&part).is_some_and(|count| *count > 1) {
                        image.shared += bytes;
                    }
                }
                (id, image)
            })
            .collect())
    }

    /// Bytes of what any image needs, each part once.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn needed_bytes(&self, usage: &StoreUsage) -> Result<u64> {
        let parts: HashSet<Part> = self.parts()?.into_values().flatten().collect();
        Ok(parts
            .iter()
            .filter_map(|part| match part {
                Part::Blob(digest) => usage.blobs.get(digest),
                Part::Layer(chain) => usage.layers.get(chain),
            })
            .sum())
    }

    /// What each image consists of, each part once.
    fn parts(&self) -> Result<HashMap<Digest, HashSet<Part>>> {
        let mut found: HashMap<Digest, HashSet<Part>> = HashMap::new();
        for image in self.inner.records.images()? {
            let parts = found.entry(image.id()).or_default();
            parts.insert(Part::Blob(image.manifest.digest));
            parts.insert(Part::Blob(image.config.digest));
            for chain in crate::documents::chain_ids(&image.diff_ids) {
                parts.insert(Part::Layer(chain));
                let blob = self.inner.layers.get(&chain).and_then(|layer| layer.blob);
                parts.extend(blob.map(Part::Blob));
            }
        }
        for (_, reference) in self.inner.records.references()? {
            let parts = found.entry(reference.image).or_default();
            parts.insert(Part::Blob(reference.target.digest));
            parts.extend(reference.keeps.into_iter().map(Part::Blob));
        }
        Ok(found)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Blob(Digest),
    Layer(Digest),
}

/// Whether it is a directory; files of a level were counted with it.
fn directory_at(path: &Path) -> bool {
    rustix::fs::lstat(path).is_ok_and(|stat| is_directory(&stat))
}
