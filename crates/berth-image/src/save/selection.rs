//! What of a name goes into an archive.
//!
//! An index goes whole when all that it leads to is here. Else the image that the name stands for here goes alone, and
//! of platforms asked for exactly these: one as its manifest, several as an index of them.

use berth_types::{Digest, ImageDocument, Platform};

use crate::documents::{Descriptor, Document, Index, Manifest, chain_ids, media, parse_json};
use crate::error::{ImageError, Result};
use crate::leads::{Reach, follow};
use crate::limits;
use crate::store::{Holds, Image, ImageStore};

/// What is written for one name or id.
#[derive(Debug)]
pub(super) struct Selection {
    /// What the archive's index lists; a manifest with its platform.
    pub(super) target: Descriptor,
    /// Manifests and indexes with their bytes, the target first.
    pub(super) documents: Vec<(Digest, Vec<u8>)>,
    /// Everything else, configurations before layers.
    pub(super) contents: Vec<Descriptor>,
    /// The image for readers that know no index.
    pub(super) one: One,
}

/// One image as `manifest.json` describes it.
#[derive(Debug)]
pub(super) struct One {
    pub(super) id: Digest,
    /// Archives of its layers that are here, lowest first.
    pub(super) layers: Vec<Descriptor>,
    /// What its publisher alone gives out, by diff id.
    pub(super) foreign: Vec<(Digest, Descriptor)>,
}

/// A manifest that can leave the store.
struct Leaving {
    entry: Descriptor,
    bytes: Vec<u8>,
    manifest: Manifest,
}

impl ImageStore {
    /// Selects what goes for an image to which `target` led; `name` is how it was asked for.
    pub(super) fn select(
        &self,
        image: &Image,
        target: &Descriptor,
        platforms: &[Platform],
        name: &str,
        holds: &mut Holds,
    ) -> Result<Selection> {
        // Held before it is looked at.
        holds.blob(&self.inner, image.id);
        holds.blob(&self.inner, target.digest);
        for chain in chain_ids(&image.record.diff_ids) {
            if let Some(blob) = self.inner.layers.get(&chain).and_then(|layer| layer.blob) {
                holds.blob(&self.inner, blob);
            }
        }
        let index = match self.read_document(target)? {
            Some(bytes) => match parse(&bytes, target)? {
                Document::Index(index) => Some((index, bytes)),
                Document::Manifest(_) => None,
            },
            None => None,
        };
        let lacking = |platform: &Platform| ImageError::NoPlatform {
            object: name.to_owned(),
            platform: platform.to_string(),
        };
        let Some((index, bytes)) = index else {
            let own = &image.record.platform;
            return match platforms.iter().find(|p| own.suitability(p).is_none()) {
                Some(other) => Err(lacking(other)),
                None => self.alone(image, holds),
            };
        };
        if platforms.is_empty() {
            let reach = self.reach(target, holds)?;
            return match reach.whole {
                true => self.whole(image, target, reach, holds),
                false => self.alone(image, holds),
            };
        }
        let mut chosen: Vec<Leaving> = Vec::new();
        for platform in platforms {
            let found = self.entry_for(&index, platform, 0, holds)?;
            let found = match found {
                Some(found) => found,
                None if image.record.platform.suitability(platform).is_some() => {
                    self.own_entry(image)?
                }
                None => return Err(lacking(platform)),
            };
            if !chosen.iter().any(|c| c.entry.digest == found.entry.digest) {
                chosen.push(found);
            }
        }
        if let [only] = &chosen[..] {
            if only.manifest.config.digest == image.id {
                return self.alone(image, holds);
            }
            let Some(only) = chosen.pop() else {
                return Err(lacking(&platforms[0]));
            };
            return self.kept(only);
        }
        self.subset(image, target, &bytes, chosen, holds)
    }

    fn read_document(&self, entry: &Descriptor) -> Result<Option<Vec<u8>>> {
        let blobs = &self.inner.blobs;
        let bytes = blobs.read(&entry.digest, limits::MANIFEST_BYTES_MAX)?;
        Ok(bytes.filter(|bytes| bytes.len() as u64 == entry.size))
    }

    fn is_here(&self, entry: &Descriptor) -> bool {
        self.inner.blobs.size(&entry.digest) == Some(entry.size)
    }

    fn reach(&self, target: &Descriptor, holds: &mut Holds) -> Result<Reach> {
        let reach = follow(
            target,
            |entry| self.read_document(entry),
            |entry| Ok(self.is_here(entry)),
        )?;
        for digest in reach.digests() {
            holds.blob(&self.inner, digest);
        }
        // Looked at again now that it is held.
        let whole = reach.whole
            && reach
                .digests()
                .all(|digest| self.inner.blobs.contains(&digest));
        Ok(Reach { whole, ..reach })
    }

    /// The index as it is, with everything behind it.
    fn whole(
        &self,
        image: &Image,
        target: &Descriptor,
        reach: Reach,
        holds: &mut Holds,
    ) -> Result<Selection> {
        let mut one = None;
        for (entry, bytes) in &reach.documents {
            let Ok(Document::Manifest(manifest)) = parse(bytes, entry) else {
                continue;
            };
            if manifest.config.digest == image.id {
                one = Some(self.one(image.id, &manifest)?);
                break;
            }
        }
        let Some(one) = one else {
            return self.alone(image, holds);
        };
        let mut contents = reach.contents;
        add_missing(&mut contents, &one.layers);
        let documents = reach.documents.into_iter();
        Ok(Selection {
            target: plain(target),
            documents: documents
                .map(|(entry, bytes)| (entry.digest, bytes))
                .collect(),
            contents: configurations_first(contents),
            one,
        })
    }

    /// An index of some of the platforms; of all of them it is the index itself.
    fn subset(
        &self,
        image: &Image,
        target: &Descriptor,
        bytes: &[u8],
        chosen: Vec<Leaving>,
        holds: &mut Holds,
    ) -> Result<Selection> {
        let entries: Vec<&Descriptor> = chosen.iter().map(|leaving| &leaving.entry).collect();
        let fewer = with_manifests(bytes, &entries)?;
        if fewer == bytes {
            let reach = self.reach(target, holds)?;
            if reach.whole {
                return self.whole(image, target, reach, holds);
            }
        }
        let target = Descriptor::of(&target.media_type, &fewer);
        let preferred = chosen
            .iter()
            .position(|leaving| leaving.manifest.config.digest == image.id)
            .unwrap_or(0);
        let one = self.one(
            chosen[preferred].manifest.config.digest,
            &chosen[preferred].manifest,
        )?;
        let mut documents = vec![(target.digest, fewer)];
        let mut contents = Vec::new();
        for leaving in chosen {
            let parts = std::iter::once(&leaving.manifest.config).chain(&leaving.manifest.layers);
            let parts: Vec<Descriptor> = parts.filter(|part| self.is_here(part)).cloned().collect();
            add_missing(&mut contents, &parts);
            documents.push((leaving.entry.digest, leaving.bytes));
        }
        add_missing(&mut contents, &one.layers);
        Ok(Selection {
            target,
            documents,
            contents: configurations_first(contents),
            one,
        })
    }

    /// The image that is unpacked here, without others of its index.
    fn alone(&self, image: &Image, holds: &mut Holds) -> Result<Selection> {
        let (entry, bytes, manifest) = self.portable_manifest(image)?;
        for part in manifest.layers.iter().chain([&entry]) {
            holds.blob(&self.inner, part.digest);
        }
        let platform = image.record.platform.clone();
        self.selection_of(entry, bytes, &manifest, &platform)
    }

    /// An image of an index that is kept here without being unpacked.
    fn kept(&self, leaving: Leaving) -> Result<Selection> {
        let Leaving {
            entry,
            bytes,
            manifest,
        } = leaving;
        let platform = self.platform_of(&manifest)?;
        if entry.media_type == media::OCI_MANIFEST {
            return self.selection_of(entry, bytes, &manifest, &platform);
        }
        // Other programs take nothing else in such a layout.
        let (entry, bytes, manifest) = self.as_oci(&manifest)?;
        self.selection_of(entry, bytes, &manifest, &platform)
    }

    fn selection_of(
        &self,
        entry: Descriptor,
        bytes: Vec<u8>,
        manifest: &Manifest,
        platform: &Platform,
    ) -> Result<Selection> {
        let one = self.one(manifest.config.digest, manifest)?;
        let mut contents = Vec::new();
        add_missing(&mut contents, std::slice::from_ref(&manifest.config));
        let here: Vec<Descriptor> = manifest
            .layers
            .iter()
            .filter(|layer| self.is_here(layer) || !layer.is_foreign())
            .cloned()
            .collect();
        add_missing(&mut contents, &here);
        add_missing(&mut contents, &one.layers);
        Ok(Selection {
            documents: vec![(entry.digest, bytes)],
            target: Descriptor {
                platform: Some(platform.into()),
                ..plain(&entry)
            },
            contents,
            one,
        })
    }

    /// The image behind a manifest for readers that know no index: every layer in a form that is here.
    fn one(&self, id: Digest, manifest: &Manifest) -> Result<One> {
        let foreign_here = manifest.layers.iter().any(Descriptor::is_foreign);
        if !foreign_here {
            return Ok(One {
                id,
                layers: manifest.layers.clone(),
                foreign: Vec::new(),
            });
        }
        let diff_ids = self.document(&id)?.rootfs.diff_ids;
        let chain = chain_ids(&diff_ids);
        let mut one = One {
            id,
            layers: Vec::with_capacity(manifest.layers.len()),
            foreign: Vec::new(),
        };
        for ((layer, chain), diff_id) in manifest.layers.iter().zip(&chain).zip(&diff_ids) {
            if layer.is_foreign() {
                one.foreign.push((*diff_id, layer.clone()));
            }
            one.layers.push(match self.is_here(layer) {
                true => layer.clone(),
                false => self.layer_archive(chain)?,
            });
        }
        Ok(one)
    }

    /// The manifest for a platform whose content is here.
    fn entry_for(
        &self,
        index: &Index,
        wanted: &Platform,
        depth: usize,
        holds: &mut Holds,
    ) -> Result<Option<Leaving>> {
        for entry in index.candidates(wanted) {
            holds.blob(&self.inner, entry.digest);
            let Some(bytes) = self.read_document(entry)? else {
                continue;
            };
            let manifest = match parse(&bytes, entry)? {
                Document::Manifest(manifest) => *manifest,
                Document::Index(inner) if depth < limits::INDEX_DEPTH_MAX => {
                    match self.entry_for(&inner, wanted, depth + 1, holds)? {
                        Some(found) => return Ok(Some(found)),
                        None => continue,
                    }
                }
                Document::Index(_) => continue,
            };
            for part in manifest.layers.iter().chain([&manifest.config]) {
                holds.blob(&self.inner, part.digest);
            }
            let is_complete = self.is_here(&manifest.config)
                && manifest
                    .layers
                    .iter()
                    .all(|layer| self.is_here(layer) || layer.is_foreign());
            if !is_complete {
                continue;
            }
            let suits = entry.platform.is_some()
                || self.platform_of(&manifest)?.suitability(wanted).is_some();
            if suits {
                return Ok(Some(Leaving {
                    entry: entry.clone(),
                    bytes,
                    manifest,
                }));
            }
        }
        Ok(None)
    }

    /// The image that is unpacked here, as an entry of an index of its own.
    fn own_entry(&self, image: &Image) -> Result<Leaving> {
        let (entry, bytes, manifest) = self.portable_manifest(image)?;
        Ok(Leaving {
            entry: Descriptor {
                platform: Some((&image.record.platform).into()),
                ..entry
            },
            bytes,
            manifest,
        })
    }

    fn platform_of(&self, manifest: &Manifest) -> Result<Platform> {
        let document: ImageDocument = self.document(&manifest.config.digest)?;
        Ok(Platform::normalised(
            &document.os,
            &document.architecture,
            &document.variant,
        ))
    }
}

fn parse(bytes: &[u8], entry: &Descriptor) -> Result<Document> {
    let object = format!("manifest {}", entry.digest.short());
    Document::parse(bytes, Some(&entry.media_type), &object)
}

/// The descriptor without what its index says about it.
fn plain(entry: &Descriptor) -> Descriptor {
    Descriptor {
        annotations: None,
        platform: None,
        urls: None,
        ..entry.clone()
    }
}

fn add_missing(contents: &mut Vec<Descriptor>, more: &[Descriptor]) {
    for content in more {
        if !contents.iter().any(|known| known.digest == content.digest) {
            contents.push(content.clone());
        }
    }
}

/// In the order in which readers want them.
fn configurations_first(mut contents: Vec<Descriptor>) -> Vec<Descriptor> {
    contents.sort_by_key(|content| {
        !matches!(
            content.media_type.as_str(),
            media::OCI_CONFIG | media::DOCKER_CONFIG
        )
    });
    contents
}

/// The index with these entries alone, in its own order, and all else as it was.
fn with_manifests(bytes: &[u8], entries: &[&Descriptor]) -> Result<Vec<u8>> {
    let document = |source| ImageError::Document {
        object: "an index".into(),
        source,
    };
    let listed: Index = parse_json(bytes, "an index")?;
    let place = |entry: &&&Descriptor| {
        listed
            .manifests
            .iter()
            .position(|known| known.digest == entry.digest)
            .unwrap_or(usize::MAX)
    };
    let mut ordered: Vec<&&Descriptor> = entries.iter().collect();
    ordered.sort_by_key(place);
    let same = ordered.iter().map(|entry| entry.digest);
    if listed.manifests.iter().map(|entry| entry.digest).eq(same) {
        return Ok(bytes.to_vec());
    }
    let mut index: serde_json::Value = serde_json::from_slice(bytes).map_err(document)?;
    let known = index["manifests"].take();
    let known = known.as_array().map_or(&[][..], Vec::as_slice);
    let mut manifests = Vec::with_capacity(ordered.len());
    for entry in ordered {
        let digest = entry.digest.to_string();
        let as_it_was = known.iter().find(|known| known["digest"] == digest);
        manifests.push(match as_it_was {
            Some(known) => known.clone(),
            None => serde_json::to_value(entry).map_err(document)?,
        });
    }
    index["manifests"] = serde_json::Value::Array(manifests);
    serde_json::to_vec(&index).map_err(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_of_fewer_platforms_keeps_its_order_and_its_other_fields() {
        let [one, two, three] =
            [b"1", b"2", b"3"].map(|bytes| Descriptor::of(media::OCI_MANIFEST, bytes));
        let text = |entries: &[&Descriptor]| {
            format!(
                r#"{{"schemaVersion":2,"manifests":{},"annotations":{{"a":"b"}}}}"#,
                serde_json::to_string(entries).unwrap()
            )
        };
        let all = text(&[&one, &two, &three]);
        let fewer = with_manifests(all.as_bytes(), &[&three, &one]).unwrap();
        assert_eq!(String::from_utf8(fewer).unwrap(), text(&[&one, &three]));
        let same = with_manifests(all.as_bytes(), &[&three, &one, &two]).unwrap();
        assert_eq!(String::from_utf8(same).unwrap(), all);
    }
}
