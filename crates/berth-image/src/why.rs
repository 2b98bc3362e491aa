//! Why an image is as large as it is, and what in it deserves a look: bytes by instruction, bytes that later
//! layers hide, files that run with other rights than their caller's, packages.
//!
//! Owns: reading it out of the unpacked layers. Nothing is mounted or executed; names, numbers and package lists
//! are the image's and hostile, so each is bounded ([`limits`]), package lists of text that make no sense are
//! skipped line by line, and databases that make none are refused with the reason.

pub(crate) mod packages;
pub(crate) mod rpm;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use berth_sys::capability::CapabilitySet;
use berth_types::{Digest, ImageDocument};
use rustix::fs::FileType;

pub use packages::Package;

use crate::documents::chain_ids;
use crate::error::{ImageError, Result};
use crate::files::pack::xattrs_of;
use crate::files::walk::{Item, Visitor, open_child, walk};
use crate::layers::view::{Merged, is_opaque};
use crate::limits;
use crate::store::ImageStore;

/// What is known about an image's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The image.
    pub id: Digest,
    /// Bytes of all layers.
    pub size: u64,
    /// Bytes of files that later layers replace or delete.
    pub wasted: u64,
    /// The user that its program runs as; empty when it does not say.
    pub user: String,
    /// Whether that is root.
    pub runs_as_root: bool,
    /// The steps it was made in, oldest first.
    pub steps: Vec<Step>,
    /// The largest files that are seen, largest first.
    pub largest: Vec<Cost>,
    /// The files that waste most, most first.
    pub hidden: Vec<Hidden>,
    /// Files with set-id bits or capabilities, by path.
    pub privileged: Vec<Privileged>,
    /// Installed packages, by manager and name.
    pub packages: Vec<Package>,
    /// Package databases that are there and are not read, or not wholly; each its path and the reason.
    pub unread: Vec<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// The instruction.
    pub created_by: String,
    /// Digest of the layer it made; none when it changed no file.
    pub layer: Option<Digest>,
    /// Bytes of that layer's files.
    pub size: u64,
    /// Files in it.
    pub files: u64,
    /// Bytes of earlier layers that it hides.
    pub hides: u64,
    /// Bytes of it that later layers hide.
    pub hidden: u64,
    /// Its largest files, largest first.
    pub largest: Vec<Cost>,
}

/// What a file costs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// Bytes.
    pub size: u64,
    /// Its path.
    pub path: Vec<u8>,
    /// Number of the step that brought it.
    pub step: usize,
}

/// A file that is stored more often than it is seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hidden {
    /// Bytes nobody sees.
    pub size: u64,
    /// Its path.
    pub path: Vec<u8>,
    /// How many copies are hidden.
    pub copies: u64,
    /// Whether it is gone altogether.
    pub deleted: bool,
}

/// A file that gives rights to whoever runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privileged {
    /// Its path.
    pub path: Vec<u8>,
    /// Permission bits with set-id bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its capabilities, as `getcap` writes them; empty for none.
    pub capabilities: String,
}

struct Seen {
    size: u64,
    step: usize,
    privileged: Option<Box<Privileged>>,
}

/// The largest of many, without keeping them all.
struct Top<T> {
    found: std::collections::BinaryHeap<std::cmp::Reverse<T>>,
}

impl<T: Ord> Top<T> {
    fn new() -> Self {
        Self {
            found: std::collections::BinaryHeap::new(),
        }
    }

    fn add(&mut self, item: T) {
        self.found.push(std::cmp::Reverse(item));
        if self.found.len() > limits::WHY_LARGEST {
            self.found.pop();
        }
    }

    fn into_vec(self) -> Vec<T> {
        let mut all: Vec<T> = self.found.into_iter().map(|item| item.0).collect();
        all.sort_by(|a, b| b.cmp(a));
        all
    }
}

/// Collects layer after layer.
#[derive(Default)]
struct Collector {
    seen: BTreeMap<Vec<u8>, Seen>,
    wasted: HashMap<Vec<u8>, (u64, u64)>,
    steps: Vec<Step>,
    entries: u64,
}

impl Collector {
    fn hide(&mut self, path: Vec<u8>, old: &Seen, step: usize) {
        let wasted = self.wasted.entry(path).or_default();
        wasted.0 += old.size;
        wasted.1 += 1;
        if let Some(by) = self.steps.get_mut(step) {
            by.hides += old.size;
        }
        if let Some(of) = self.steps.get_mut(old.step) {
            of.hidden += old.size;
        }
    }

    /// Takes away everything below a directory that came with an earlier step.
    fn hide_below(&mut self, path: &[u8], step: usize) {
        let from = [path, b"/"].concat();
        let to = [path, b"0"].concat();
        let below: Vec<Vec<u8>> = self
            .seen
            .range(from..to)
            .filter(|(_, seen)| seen.step != step)
            .map(|(path, _)| path.clone())
            .collect();
        for path in below {
            if let Some(old) = self.seen.remove(&path) {
                self.hide(path, &old, step);
            }
        }
    }

    fn hide_one(&mut self, path: &[u8], step: usize) {
        if let Some(old) = self.seen.remove(path) {
            self.hide(path.to_vec(), &old, step);
        }
        self.hide_below(path, step);
    }
}

/// Goes through one layer.
struct LayerWalk<'a> {
    collector: &'a mut Collector,
    step: usize,
    inodes: HashSet<u64>,
    largest: Top<Cost>,
}

impl Visitor for LayerWalk<'_> {
    fn visit(&mut self, item: &Item<'_>) -> Result<bool> {
        self.collector.entries += 1;
        if self.collector.entries > limits::LAYER_ENTRIES_MAX {
            return Err(ImageError::Limit {
                object: "the image".into(),
                limit: limits::LAYER_ENTRIES_MAX,
                unit: "files",
            });
        }
        match item.kind() {
            FileType::Directory => {
                if let Some(directory) = open_child(item)?
                    && is_opaque(&directory)
                {
                    self.collector.hide_below(item.path, self.step);
                }
                // A file that a directory takes the place of.
                if let Some(old) = self.collector.seen.remove(item.path) {
                    self.collector.hide(item.path.to_vec(), &old, self.step);
                }
                return Ok(true);
            }
            FileType::CharacterDevice if item.stat.st_rdev == 0 => {
                self.collector.hide_one(item.path, self.step);
                return Ok(false);
            }
            _ => {}
        }
        self.collector.hide_one(item.path, self.step);
        let is_file = item.kind() == FileType::RegularFile;
        let is_first = item.stat.st_nlink < 2 || self.inodes.insert(item.stat.st_ino);
        let size = match is_file && is_first {
            true => u64::try_from(item.stat.st_size).unwrap_or(0),
            false => 0,
        };
        if let Some(step) = self.collector.steps.get_mut(self.step) {
            step.files += 1;
            step.size += size;
        }
        let cost = |step| Cost {
            size,
            path: item.path.to_vec(),
            step,
        };
        if size > 0 {
            self.largest.add(cost(self.step));
        }
        let privileged = match is_file {
            true => privileged(item)?.map(Box::new),
            false => None,
        };
        let seen = Seen {
            size,
            step: self.step,
            privileged,
        };
        self.collector.seen.insert(item.path.to_vec(), seen);
        Ok(false)
    }
}

fn privileged(item: &Item<'_>) -> Result<Option<Privileged>> {
    let mode = item.stat.st_mode & 0o7777;
    // Without an execute bit neither set-id bits nor capabilities have an effect.
    if mode & 0o111 == 0 {
        return Ok(None);
    }
    let capabilities = xattrs_of(item)?
        .iter()
        .find(|(name, _)| name == b"security.capability")
        .map(|(_, value)| capability_text(value))
        .unwrap_or_default();
    let is_set_id = mode & 0o4000 != 0 || (mode & 0o2000 != 0 && mode & 0o010 != 0);
    Ok((is_set_id || !capabilities.is_empty()).then(|| Privileged {
        path: item.path.to_vec(),
        mode,
        uid: item.stat.st_uid,
        gid: item.stat.st_gid,
        capabilities,
    }))
}

/// File capabilities (capabilities(7), `struct vfs_ns_cap_data`) in the words of getcap(8).
fn capability_text(value: &[u8]) -> String {
    let word = |at: usize| -> u64 {
        value
            .get(at..at + 4)
            .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
            .map_or(0, |bytes| u32::from_le_bytes(bytes).into())
    };
    let (permitted, inheritable) = match value.len() {
        12 => (word(4), word(8)),
        20 | 24 => (word(4) | word(12) << 32, word(8) | word(16) << 32),
        _ => return "malformed".to_owned(),
    };
    let effective = word(0) & 1 != 0;
    let mut groups = Vec::new();
    for (bits, letters) in [
        (permitted & inheritable, "ip"),
        (permitted & !inheritable, "p"),
        (inheritable & !permitted, "i"),
    ] {
        let names: Vec<String> = CapabilitySet::from_bits(bits)
            .iter()
            .map(|capability| capability.name().to_ascii_lowercase())
            .collect();
        if !names.is_empty() {
            let effective = if effective { "e" } else { "" };
            groups.push(format!("{}={effective}{letters}", names.join(",")));
        }
    }
    groups.join(" ")
}

impl ImageStore {
    /// Looks into an image.
    ///
    /// # Errors
    /// When there is no such image, its layers cannot be read, or it has more files than any image needs.
    pub fn why(&self, text: &str) -> Result<Why> {
        let image = self.resolve(text)?;
        let document = self.document(&image.id)?;
        let chain = chain_ids(&image.record.diff_ids);
        let mut collector = Collector {
            steps: steps(&document, &image.record.diff_ids),
            ..Collector::default()
        };
        let places: Vec<usize> = collector
            .steps
            .iter()
            .enumerate()
            .filter(|(_, step)| step.layer.is_some())
            .map(|(number, _)| number)
            .collect();
        let mut directories: Vec<PathBuf> = Vec::new();
        for (chain, step) in chain.iter().zip(places) {
            let layer = self
                .inner
                .layers
                .get(chain)
                .ok_or_else(|| ImageError::NoSuchImage {
                    reference: format!("layer {}", chain.short()),
                })?;
            if layer.opaque_root {
                let all: Vec<Vec<u8>> = collector.seen.keys().cloned().collect();
                for path in all {
                    collector.hide_one(&path, step);
                }
            }
            let directory = self.inner.layers.directory().join(&layer.directory);
            let root: OwnedFd = berth_sys::fs::open_directory(&directory)?;
            let mut visitor = LayerWalk {
                collector: &mut collector,
                step,
                inodes: HashSet::new(),
                largest: Top::new(),
            };
            walk(&root, &mut visitor)?;
            let largest = visitor.largest.into_vec();
            if let Some(step) = collector.steps.get_mut(step) {
                step.largest = largest;
            }
            directories.push(directory);
        }
        let shown = self.inner.layers.directories(&chain)?;
        let view = Merged::root(shown.iter().map(PathBuf::as_path))?;
        let (packages, unread) = packages::installed(&view, collector.seen.keys())?;
        let passwd = view
            .read(b"etc/passwd", limits::WHY_DATABASE_BYTES)?
            .unwrap_or_default();
        let user = document.config.user.clone();
        Ok(collector.finish(image.id, user, &passwd, packages, unread))
    }
}

impl Collector {
    fn finish(
        self,
        id: Digest,
        user: String,
        passwd: &[u8],
        packages: Vec<Package>,
        unread: Vec<String>,
    ) -> Why {
        let mut largest = Top::new();
        let mut privileged = Vec::new();
        for (path, seen) in &self.seen {
            if seen.size > 0 {
                largest.add(Cost {
                    size: seen.size,
                    path: path.clone(),
                    step: seen.step,
                });
            }
            if let Some(found) = &seen.privileged {
                privileged.push((**found).clone());
            }
        }
        let mut hidden = Top::new();
        for (path, (size, copies)) in &self.wasted {
            if *size > 0 {
                hidden.add(Hidden {
                    size: *size,
                    deleted: !self.seen.contains_key(path),
                    path: path.clone(),
                    copies: *copies,
                });
            }
        }
        Why {
            id,
            size: self.steps.iter().map(|step| step.size).sum(),
            wasted: self.wasted.values().map(|(size, _)| size).sum(),
            runs_as_root: is_root(&user, passwd),
            user,
            steps: self.steps,
            largest: largest.into_vec(),
            hidden: hidden.into_vec(),
            privileged,
            packages,
            unread,
        }
    }
}

/// Whether a user as an image names it has the id 0.
fn is_root(user: &str, passwd: &[u8]) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    if name.is_empty() {
        return true;
    }
    let listed = passwd
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .find(|line| line.split(':').next() == Some(name));
    match listed.and_then(|line| line.split(':').nth(2)) {
        Some(uid) => uid == "0",
        None => name.parse() == Ok(0_u32) || name == "root",
    }
}

/// The history with the layers it speaks of; layers that it does not speak of come last.
fn steps(document: &ImageDocument, diff_ids: &[Digest]) -> Vec<Step> {
    let mut layers = diff_ids.iter();
    let mut steps: Vec<Step> = document
        .history
        .iter()
        .map(|entry| Step {
            created_by: entry.created_by.clone(),
            layer: match entry.empty_layer {
                true => None,
                false => layers.next().copied(),
            },
            ..Step::default()
        })
        .collect();
    steps.extend(layers.map(|layer| Step {
        layer: Some(*layer),
        ..Step::default()
    }));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_told_as_getcap_tells_them() {
        let data = |magic: u32, permitted: u64, inheritable: u64| {
            let mut bytes = magic.to_le_bytes().to_vec();
            for shift in [0, 32] {
                bytes.extend(((permitted >> shift) as u32).to_le_bytes());
                bytes.extend(((inheritable >> shift) as u32).to_le_bytes());
            }
            bytes
        };
        assert_eq!(
            capability_text(&data(0x0200_0001, 1 << 13, 0)),
            "cap_net_raw=ep"
        );
        assert_eq!(
            capability_text(&data(0x0200_0000, (1 << 10) | (1 << 38), 1 << 10)),
            "cap_net_bind_service=ip cap_perfmon=p"
        );
        assert_eq!(capability_text(b"short"), "malformed");
    }

    #[test]
    fn root_is_root_by_any_name() {
        let passwd = b"root:x:0:0::/:\nadmin:x:0:0::/:\nwww:x:33:33::/:\n";
        for user in ["", "0", "root", "0:33", "admin:www"] {
            assert!(is_root(user, passwd), "{user}");
        }
        for user in ["www", "33", "1000:0"] {
            assert!(!is_root(user, passwd), "{user}");
        }
    }
}
