//! Large images for measurements, made of the files of the Debian image, so that they compress and unpack like real
//! ones: programs, libraries, text, many small files and some large ones.
//!
//! They are made once and stay in a registry's storage in the cache.

use std::io::Read;

use anyhow::{Context, Result};
use tar::{Archive, Builder, EntryType, Header};

use crate::archive::{Dialect, Image, digest};
use crate::images;
use crate::registry::Registry;

/// Raised when the code below makes other images.
const REVISION: &str = "1";

/// A large image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bulk {
    /// About 940 MB in 40 layers.
    Many,
    /// About 590 MB in one layer.
    Large,
    /// About 23 MB in one layer.
    Small,
}

impl Bulk {
    /// Copies of the Debian image, and layers for each of them.
    fn recipe(self) -> (&'static str, usize, usize) {
        match self {
            Self::Many => ("many", 8, 5),
            Self::Large => ("large", 5, 1),
            Self::Small => ("small", 1, 5),
        }
    }

    /// Repository and tag.
    pub fn name(self) -> Result<String> {
        let key = digest(format!("{REVISION} {}", digest(&images::debian()?.layers[0])).as_bytes());
        Ok(format!("bulk/{}:{}", self.recipe().0, &key[7..19]))
    }

    /// Puts the image into a registry, unless it is there.
    pub fn ensure(self, registry: &Registry) -> Result<()> {
        let name = self.name()?;
        if registry.holds(&name)? {
            return Ok(());
        }
        let (_, copies, slices) = self.recipe();
        let debian = images::debian()?;
        let mut layers = Vec::new();
        for copy in 0..copies {
            let mut slices = slices_of(&debian.layers[0], copy, slices)?;
            match self {
                Self::Many => layers.append(&mut slices),
                Self::Small => layers.extend(slices.into_iter().take(1)),
                // One archive after the other, without the blocks that end each of them.
                Self::Large if layers.is_empty() => layers.append(&mut slices),
                Self::Large => {
                    let whole = &mut layers[0];
                    whole.truncate(whole.len() - END);
                    whole.append(&mut slices[0]);
                }
            }
        }
        registry.push(&Image::new(&name, &["bash"], layers), Dialect::Docker)
    }
}

/// Blocks of zeros at the end of an archive.
const END: usize = 1024;

/// A copy of the layer below a directory of its own, cut into layers of about the same number of entries.
fn slices_of(layer: &[u8], copy: usize, slices: usize) -> Result<Vec<Vec<u8>>> {
    let count = Archive::new(layer)
        .entries()
        .context("read the Debian image")?
        .count();
    let mut builders: Vec<Builder<Vec<u8>>> =
        (0..slices).map(|_| Builder::new(Vec::new())).collect();
    let mut places = std::collections::HashMap::new();
    for (number, entry) in Archive::new(layer).entries()?.enumerate() {
        let mut entry = entry.context("read the Debian image")?;
        let kind = entry.header().entry_type();
        let path = entry
            .path()?
            .to_string_lossy()
            .trim_start_matches("./")
            .to_owned();
        if path.is_empty() || matches!(kind, EntryType::Char | EntryType::Block) {
            continue;
        }
        let below = |path: &str| format!("copy{copy}/{path}");
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(entry.header().mode()?);
        header.set_uid(entry.header().uid()?);
        header.set_gid(entry.header().gid()?);
        header.set_mtime(entry.header().mtime()?);
        header.set_size(0);
        let mut slice = number * slices / count;
        match kind {
            EntryType::Link | EntryType::Symlink => {
                let target = entry
                    .link_name()?
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let target = if kind == EntryType::Link {
                    let target = target.trim_start_matches("./").to_owned();
                    // A hard link is in the layer of what it links to.
                    slice = places.get(&target).copied().unwrap_or(slice);
                    below(&target)
                } else {
                    target
                };
                builders[slice].append_link(&mut header, below(&path), target)?;
            }
            _ => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                header.set_size(content.len() as u64);
                builders[slice].append_data(&mut header, below(&path), content.as_slice())?;
            }
        }
        places.insert(path, slice);
    }
    builders
        .into_iter()
        .map(|builder| builder.into_inner().context("finish a layer"))
        .collect()
}
