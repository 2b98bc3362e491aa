//! Writing images as one archive that is both: what `docker load` of every age takes (`manifest.json`), and an
//! OCI image layout (`index.json`, `blobs/`).
//!
//! Owns: the form of the archive. Content goes out as it is stored, so nothing is compressed or hashed again;
//! documents come first, each content once. The same images give the same bytes. Does not own: where the
//! archive goes.

mod selection;

use std::collections::HashSet;
use std::io::Write;

use berth_types::{Digest, Platform, Reference};
use indexmap::IndexMap;
use serde::Serialize;

use crate::archive::{ArchiveWriter, Entry, Kind};
use crate::documents::{Descriptor, Index, media};
use crate::error::{Attempt, ImageError, Result};
use crate::files::pack::write_failed;
use crate::limits;
use crate::load::{NAME_ANNOTATION, REF_ANNOTATION};
use crate::store::{Holds, Image, ImageId, ImageStore};
use selection::{One, Selection};

/// Images about to be written; their content stays for as long as this lives.
#[derive(Debug)]
pub struct Save {
    store: ImageStore,
    holds: Holds,
    images: Vec<Saved>,
}

#[derive(Debug)]
struct Saved {
    image: ImageId,
    tags: Vec<Reference>,
    selection: Selection,
}

/// One image of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerItem {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    /// Layers whose publisher alone gives them out, by diff id.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    layer_sources: IndexMap<String, Descriptor>,
}

impl Drop for Save {
    fn drop(&mut self) {
        // An image removed meanwhile goes now; what cannot be removed is at the next open.
        if let Err(error) = self.store.release(std::mem::take(&mut self.holds)) {
            tracing::debug!(%error, "content of saved images stays");
        }
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn json<T: Serialize>(value: &T, object: &str) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| ImageError::Document {
        object: object.to_owned(),
        source,
    })
}

impl ImageStore {
    /// Looks up what is to be saved. A name with a tag or digest or an id is one image, a name without a tag
    /// all images of the repository.
    ///
    /// A name whose index is here with everything behind it is saved with all its platforms, or with those asked for.
    ///
    /// # Errors
    /// When there is no such image, it is not here for one of `platforms`, or its content is not complete.
    pub fn save(&self, names: &[String], platforms: &[Platform]) -> Result<Save> {
        let mut save = Save {
            store: self.clone(),
            holds: Holds::default(),
            images: Vec::new(),
        };
        for name in names {
            for (image, found) in self.meant(name)? {
                save.add(&image, found, platforms, name)?;
            }
        }
        Ok(save)
    }

    /// The images that a word means, each with the name that led to it.
    fn meant(&self, text: &str) -> Result<Vec<(Image, Option<Reference>)>> {
        let is_id = Digest::parse(text).is_ok() || Digest::from_hex(text).is_some();
        if !is_id
            && let Ok(name) = Reference::parse(text)
            && name.tag().is_none()
            && name.digest().is_none()
        {
            let mut found = Vec::new();
            for (reference, record) in self.inner.records.references()? {
                if reference.name() == name.name()
                    && let Some(image) = self.inner.records.image(&record.image)?
                {
                    let image = Image {
                        id: record.image,
                        record: image,
                    };
                    found.push((image, Some(reference)));
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(vec![self.resolve_as(text)?])
    }
}

impl Save {
    fn add(
        &mut self,
        image: &Image,
        found: Option<Reference>,
        platforms: &[Platform],
        name: &str,
    ) -> Result<()> {
        let record = match &found {
            Some(found) => self.store.inner.records.reference(found)?,
            None => None,
        };
        let target = record.map_or_else(|| image.record.manifest.clone(), |record| record.target);
        let tag = found.filter(|found| found.digest().is_none());
        let selection = self
            .store
            .select(image, &target, platforms, name, &mut self.holds)?;
        if let Some(known) = self
            .images
            .iter_mut()
            .find(|known| known.selection.target.digest == selection.target.digest)
        {
            if let Some(tag) = tag
                && !known.tags.contains(&tag)
            {
                known.tags.push(tag);
            }
            return Ok(());
        }
        if self.images.len() >= limits::ARCHIVE_IMAGES_MAX {
            return Err(ImageError::Limit {
                object: "the archive".into(),
                limit: limits::ARCHIVE_IMAGES_MAX as u64,
                unit: "images",
            });
        }
        self.images.push(Saved {
            image: image.id,
            tags: tag.into_iter().collect(),
            selection,
        });
        Ok(())
    }

    /// The images, each once, in the order of the archive.
    pub fn images(&self) -> impl Iterator<Item = &ImageId> {
        let mut told = HashSet::new();
        self.images
            .iter()
            .map(|saved| &saved.image)
            .filter(move |id| told.insert(**id))
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// When content cannot be read, or the target takes no more.
    pub fn write_to<W: Write>(&self, target: W) -> Result<W> {
        let mut archive = ArchiveWriter::new(target);
        let small = |archive: &mut ArchiveWriter<W>, name: &str, content: &[u8]| {
            let entry = Entry {
                size: content.len() as u64,
                ..Entry::new(Kind::Regular, name.as_bytes())
            };
            archive.file(&entry, content).map_err(write_failed)
        };
        small(
            &mut archive,
            "oci-layout",
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        small(
            &mut archive,
            "index.json",
            &json(&self.index(), "index.json")?,
        )?;
        small(
            &mut archive,
            "manifest.json",
            &json(&self.docker_list(), "manifest.json")?,
        )?;
        let repositories = self.repositories();
        if !repositories.is_empty() {
            small(
                &mut archive,
                "repositories",
                &json(&repositories, "repositories")?,
            )?;
        }
        for directory in ["blobs/", "blobs/sha256/"] {
            archive
                .entry(&Entry::new(Kind::Directory, directory.as_bytes()))
                .map_err(write_failed)?;
        }
        let mut written = HashSet::new();
        for saved in &self.images {
            for (digest, bytes) in &saved.selection.documents {
                if written.insert(*digest) {
                    small(&mut archive, &blob_path(digest), bytes)?;
                }
            }
        }
        for saved in &self.images {
            for content in &saved.selection.contents {
                if written.insert(content.digest) {
                    self.content(&mut archive, content)?;
                }
            }
        }
        archive.finish().map_err(write_failed)
    }

    fn content<W: Write>(
        &self,
        archive: &mut ArchiveWriter<W>,
        descriptor: &Descriptor,
    ) -> Result<()> {
        let attempt = || format!("read content {}", descriptor.digest);
        let file = self
            .store
            .inner
            .blobs
            .reader(&descriptor.digest)?
            .ok_or_else(|| ImageError::NoSuchImage {
                reference: format!("content {}", descriptor.digest),
            })?;
        let entry = Entry {
            size: descriptor.size,
            ..Entry::new(Kind::Regular, blob_path(&descriptor.digest).as_bytes())
        };
        archive.entry(&entry).map_err(write_failed)?;
        let mut buffer = vec![0_u8; limits::PIPE_CHUNK_BYTES];
        while archive.remaining() > 0 {
            let want = usize::try_from(archive.remaining())
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let count = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut buffer[..want]))
                .attempt(attempt)?;
            if count == 0 {
                return Err(ImageError::Size {
                    object: format!("content {}", descriptor.digest),
                    expected: descriptor.size,
                    actual: descriptor.size - archive.remaining(),
                });
            }
            archive.data(&buffer[..count]).map_err(write_failed)?;
        }
        Ok(())
    }

    fn index(&self) -> Index {
        let mut manifests = Vec::new();
        for saved in &self.images {
            let entry = |annotations| Descriptor {
                annotations,
                ..saved.selection.target.clone()
            };
            if saved.tags.is_empty() {
                manifests.push(entry(None));
            }
            for tag in &saved.tags {
                let mut notes = IndexMap::new();
                notes.insert(NAME_ANNOTATION.to_owned(), tag.to_string());
                notes.insert(
                    REF_ANNOTATION.to_owned(),
                    tag.tag().unwrap_or_default().to_owned(),
                );
                manifests.push(entry(Some(notes)));
            }
        }
        Index {
            schema_version: 2,
            media_type: Some(media::OCI_INDEX.to_owned()),
            manifests,
        }
    }

    /// Every image once, with all its tags.
    fn docker_list(&self) -> Vec<DockerItem> {
        let mut found: IndexMap<Digest, (&One, Vec<String>)> = IndexMap::new();
        for saved in &self.images {
            let one = &saved.selection.one;
            let (_, tags) = found.entry(one.id).or_insert_with(|| (one, Vec::new()));
            for tag in saved.tags.iter().map(Reference::familiar) {
                if !tags.contains(&tag) {
                    tags.push(tag);
                }
            }
        }
        found
            .into_values()
            .map(|(one, tags)| DockerItem {
                config: blob_path(&one.id),
                repo_tags: (!tags.is_empty()).then_some(tags),
                layers: one
                    .layers
                    .iter()
                    .map(|layer| blob_path(&layer.digest))
                    .collect(),
                layer_sources: one
                    .foreign
                    .iter()
                    .map(|(diff_id, layer)| (diff_id.to_string(), layer.clone()))
                    .collect(),
            })
            .collect()
    }

    /// The oldest of the forms: repository to tag to the id of the topmost layer.
    fn repositories(&self) -> IndexMap<String, IndexMap<String, String>> {
        let mut repositories: IndexMap<String, IndexMap<String, String>> = IndexMap::new();
        for saved in &self.images {
            let top = saved.selection.one.layers.last();
            let top = top.map(|layer| layer.digest.hex());
            for tag in &saved.tags {
                repositories
                    .entry(tag.familiar_name().to_owned())
                    .or_default()
                    .insert(
                        tag.tag().unwrap_or_default().to_owned(),
                        top.clone().unwrap_or_default().to_owned(),
                    );
            }
        }
        repositories
    }
}
