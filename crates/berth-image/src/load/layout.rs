//! What `index.json` of an archive says: an OCI image layout.

use std::collections::HashMap;

use berth_types::{Digest, ImageDocument, Platform, Reference};

use super::{Found, Loader, NAME_ANNOTATION, OBJECT, REF_ANNOTATION, is_index, suits};
use crate::documents::{Descriptor, Document, Index, Manifest, check_document, parse_json};
use crate::error::{ImageError, Result};
use crate::limits;
use crate::store::NewName;

/// What an entry of a layout brings.
struct Chosen {
    /// What its name stands for.
    target: Descriptor,
    /// The manifest of the image that is unpacked.
    entry: Descriptor,
    manifest: Manifest,
    /// What is kept beside it.
    keeps: Vec<Digest>,
    /// Platforms asked for that this includes.
    further: Vec<Platform>,
}

impl Loader<'_> {
    /// The indexes that a layout gives names to.
    pub(super) fn indexes_by_name(&self, index: &Index) -> HashMap<Reference, Descriptor> {
        let named = index.manifests.iter().filter(|entry| is_index(entry));
        named
            .filter(|entry| self.contents.blob(&entry.digest).is_ok())
            .filter_map(|entry| Some((name_of(entry)?, entry.clone())))
            .collect()
    }

    pub(super) fn layout(&self, index: &[u8], platforms: &[Platform]) -> Result<Vec<Found>> {
        if self.contents.document("oci-layout").is_none() {
            return Err(ImageError::archive(
                OBJECT,
                "it has an index.json but no oci-layout file",
            ));
        }
        let index = self.index(index)?;
        // Entries with the same name are the platforms of one image.
        let mut groups: Vec<(Option<Reference>, Vec<Descriptor>)> = Vec::new();
        for entry in index.manifests {
            if entry.annotation("vnd.docker.reference.type").is_some() {
                continue;
            }
            let name = name_of(&entry);
            let platforms = entry.platform.is_some();
            match groups.iter_mut().find(|(other, entries)| {
                *other == name && platforms && entries.iter().all(|e| e.platform.is_some())
            }) {
                Some((_, entries)) => entries.push(entry),
                None => groups.push((name, vec![entry])),
            }
        }
        if groups.len() > limits::ARCHIVE_IMAGES_MAX {
            return Err(ImageError::Limit {
                object: OBJECT.into(),
                limit: limits::ARCHIVE_IMAGES_MAX as u64,
                unit: "images",
            });
        }
        let mut found: Vec<Found> = Vec::new();
        for (name, entries) in groups {
            let Some(Chosen {
                target,
                entry: manifest_entry,
                manifest,
                keeps,
                further,
            }) = self.choose_for(&entries, platforms)?
            else {
                continue;
            };
            let object = format!("image {} of the archive", manifest_entry.digest.short());
            let config = self.contents.blob(&manifest.config.digest)?;
            if config.size != manifest.config.size {
                return Err(ImageError::Size {
                    object: format!("the configuration of {object}"),
                    expected: manifest.config.size,
                    actual: config.size,
                });
            }
            let bytes = self.read(config, limits::CONFIG_BYTES_MAX, "an image configuration")?;
            let document: ImageDocument = parse_json(&bytes, &object)?;
            check_document(&document, manifest.layers.len(), &object)?;
            if !suits(&document, platforms) {
                continue;
            }
            for layer in &manifest.layers {
                if !self.has(layer)? {
                    return Err(ImageError::archive(OBJECT, lacks(layer)));
                }
            }
            let name = name.map(|name| NewName {
                name,
                target,
                keeps,
            });
            if let Some(known) = found
                .iter_mut()
                .find(|known| known.config.digest == manifest.config.digest)
            {
                known.names.extend(name);
                continue;
            }
            found.push(Found {
                manifest: manifest_entry,
                config: manifest.config,
                document,
                layers: manifest.layers,
                names: name.into_iter().collect(),
                further,
            });
        }
        Ok(found)
    }

    /// Chooses the image that is unpacked, and what is kept beside it.
    fn choose_for(&self, entries: &[Descriptor], platforms: &[Platform]) -> Result<Option<Chosen>> {
        let host = &self.store.inner.settings.platform;
        if platforms.is_empty() {
            let Some((target, entry, manifest)) = self.choose(entries, host, false)? else {
                return Ok(None);
            };
            let keeps = match target.digest == entry.digest {
                true => Vec::new(),
                false => self.keeps(&self.reach(&target)?)?,
            };
            return Ok(Some(Chosen {
                target,
                entry,
                manifest,
                keeps,
                further: Vec::new(),
            }));
        }
        // The host's own, when it is among them, is the one that can be run.
        let mut wanted: Vec<&Platform> = platforms.iter().collect();
        wanted.sort_by_key(|platform| platform.suitability(host).is_none());
        let mut chosen: Option<Chosen> = None;
        for platform in wanted {
            let Some((target, entry, manifest)) = self.choose(entries, platform, true)? else {
                continue;
            };
            match &mut chosen {
                None => {
                    chosen = Some(Chosen {
                        target,
                        entry,
                        manifest,
                        keeps: Vec::new(),
                        further: Vec::new(),
                    });
                }
                // Names stand for one thing: only what is of the same index can be kept with them.
                Some(chosen)
                    if chosen.target.digest == target.digest
                        && chosen.entry.digest != entry.digest =>
                {
                    let reach = self.reach(&entry)?;
                    if !reach.whole {
                        return Err(ImageError::archive(
                            OBJECT,
                            format!("it does not contain all of the image for {platform}"),
                        ));
                    }
                    chosen.keeps.extend(self.keeps(&reach)?);
                    chosen.further.push(platform.clone());
                }
                Some(_) => {}
            }
        }
        if let Some(chosen) = &mut chosen
            && !chosen.further.is_empty()
        {
            chosen.keeps.push(chosen.target.digest);
            let reach = self.reach(&chosen.target)?;
            let indexes = reach.documents.iter().filter(|(entry, _)| is_index(entry));
            chosen.keeps.extend(indexes.map(|(entry, _)| entry.digest));
        }
        Ok(chosen)
    }

    /// The entry for the platform, going down nested indexes: what the name stands for, and the manifest.
    fn choose(
        &self,
        entries: &[Descriptor],
        wanted: &Platform,
        strict: bool,
    ) -> Result<Option<(Descriptor, Descriptor, Manifest)>> {
        let mut level = Index {
            schema_version: 2,
            media_type: None,
            manifests: entries.to_vec(),
        };
        let mut target: Option<Descriptor> = None;
        for _ in 0..=limits::INDEX_DEPTH_MAX {
            let mut candidates: Vec<Descriptor> =
                level.candidates(wanted).into_iter().cloned().collect();
            // An archive for another platform alone is still what the user chose to load.
            if candidates.is_empty() && !strict && level.manifests.len() == 1 {
                candidates.extend(level.manifests.first().cloned());
            }
            let mut next = None;
            for entry in candidates {
                // Other platforms' files may have been left out of the archive.
                if self.contents.blob(&entry.digest).is_err() && level.manifests.len() > 1 {
                    continue;
                }
                next = Some(entry);
                break;
            }
            let Some(entry) = next else {
                return match (strict, target) {
                    (false, Some(target)) => Err(ImageError::NoPlatform {
                        object: format!("{} of the archive", target.digest.short()),
                        platform: wanted.to_string(),
                    }),
                    _ => Ok(None),
                };
            };
            let top = target.get_or_insert_with(|| entry.clone()).clone();
            match self.parse(&entry)? {
                Document::Manifest(manifest) => return Ok(Some((top, entry, *manifest))),
                Document::Index(index) => level = index,
            }
        }
        Err(ImageError::Limit {
            object: format!("{OBJECT}: nesting of indexes"),
            limit: limits::INDEX_DEPTH_MAX as u64,
            unit: "levels",
        })
    }
}

fn lacks(layer: &Descriptor) -> String {
    let id = layer.digest.short();
    match layer.urls.iter().flatten().next() {
        Some(url) if layer.is_foreign() => format!(
            "it does not contain layer {id}, which only its publisher gives out, at {}; \
             pull the image from its registry instead",
            url.chars().take(256).collect::<String>()
        ),
        _ => format!("it does not contain layer {id}"),
    }
}

/// The name of a layout's entry. A bare tag names no repository, so it names nothing.
pub(super) fn name_of(entry: &Descriptor) -> Option<Reference> {
    let text = entry.annotation(NAME_ANNOTATION).or_else(|| {
        entry
            .annotation(REF_ANNOTATION)
            .filter(|text| text.contains([':', '/']))
    })?;
    crate::store::parse_name(text)
        .ok()
        .filter(|name| name.digest().is_none())
}
