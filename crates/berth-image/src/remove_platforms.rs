//! Removing single platforms of images that have several.
//!
//! What a platform's manifest leads to goes from all names that keep it, since they share it. Where the image that
//! goes is the unpacked one, its names stand for another platform's image from then on, which is unpacked first; names
//! that have no other here go with it. An index itself stays, so that a pull brings back what it lists.
//!
//! Invariant: one transaction, so that no name ever stands for an image that is not whole.

use std::collections::HashSet;

use berth_types::{Digest, ImageDocument, Platform, Reference};

use crate::documents::{Descriptor, Document, chain_ids, check_document, parse_json};
use crate::error::{ImageError, Result};
use crate::leads::{Leads, Reach, follow};
use crate::limits;
use crate::manifests::{ManifestKind, ManifestView};
use crate::records::{Changes, ImageRecord, ReferenceRecord};
use crate::remove::{ImageUse, Removal};
use crate::store::{Holds, Image, ImageId, ImageStore, NewImage};

/// The names that a removal changes, and what becomes of them.
#[derive(Default)]
struct Plan {
    /// As they are now: another look under the gate has to find the same.
    seen: Vec<(Reference, ReferenceRecord)>,
    /// As they are then.
    changed: Vec<(Reference, ReferenceRecord)>,
    /// Without any image left.
    gone: Vec<Reference>,
    /// Images that names stand for then, and that are not unpacked yet.
    unpacked: Vec<NewImage>,
}

/// The manifest of a platform.
struct Unwanted {
    manifest: Descriptor,
    /// All that it leads to.
    reach: Reach,
    /// The image that it is when unpacked.
    image: Option<ImageId>,
}

impl ImageStore {
    /// Removes the images for `platforms` of a name or image, from everything that shares them. `uses` gives all
    /// containers of the engine with their images. Blocks.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`], [`ImageError::PlatformNotHere`], or [`ImageError::Conflict`] when it is in use.
    pub fn remove_platforms(
        &self,
        text: &str,
        platforms: &[Platform],
        uses: impl Fn() -> Vec<ImageUse>,
    ) -> Result<Vec<Removal>> {
        let mut unwanted = Vec::new();
        for platform in platforms {
            let found = self.unwanted(text, platform)?;
            if unwanted
                .iter()
                .all(|other: &Unwanted| other.manifest.digest != found.manifest.digest)
            {
                unwanted.push(found);
            }
        }
        let mut done = Vec::new();
        for one in &unwanted {
            let mut holds = Holds::default();
            let outcome = self.remove_manifest(one, &uses, &mut holds, &mut done);
            let released = self.release(holds);
            outcome?;
            released?;
        }
        Ok(done)
    }

    /// Finds the image for exactly this platform.
    fn unwanted(&self, text: &str, platform: &Platform) -> Result<Unwanted> {
        let (image, name) = self.resolve_as(text)?;
        let here = |view: &ManifestView| {
            let own =
                matches!(&view.kind, ManifestKind::Image { platform: own, .. } if own == platform);
            own && self.inner.blobs.contains(&view.descriptor.digest)
        };
        for target in self.targets(&image, name)? {
            let Some(view) = self.manifests_of(target)?.into_iter().find(here) else {
                continue;
            };
            let reach = self.reach_without(&view.descriptor, None)?;
            let config = match reach.documents.first() {
                Some((_, bytes)) => parse_json::<Leads>(bytes, "a manifest")?.config,
                None => None,
            };
            let image = config.map(|config| config.digest);
            let record = match &image {
                Some(id) => self.inner.records.image(id)?,
                None => None,
            };
            if record.is_some_and(|record| record.retired) {
                // Removed before; what is here is there for containers.
                continue;
            }
            return Ok(Unwanted {
                manifest: view.descriptor,
                reach,
                image,
            });
        }
        Err(ImageError::PlatformNotHere {
            reference: text.to_owned(),
            platform: platform.to_string(),
        })
    }

    /// What a name stands for; of an image that is given by its id, what all its names stand for.
    fn targets(&self, image: &Image, name: Option<Reference>) -> Result<Vec<Descriptor>> {
        let names = match name {
            Some(name) => vec![name],
            None => self.names(&image.id)?,
        };
        let mut targets: Vec<Descriptor> = Vec::new();
        for name in &names {
            if let Some(record) = self.inner.records.reference(name)?
                && targets
                    .iter()
                    .all(|known| known.digest != record.target.digest)
            {
                targets.push(record.target);
            }
        }
        if targets.is_empty() {
            targets.push(image.record.manifest.clone());
        }
        Ok(targets)
    }

    fn remove_manifest(
        &self,
        unwanted: &Unwanted,
        uses: &impl Fn() -> Vec<ImageUse>,
        holds: &mut Holds,
        done: &mut Vec<Removal>,
    ) -> Result<()> {
        for _ in 0..limits::REPLANS_MAX {
            let plan = self.plan(unwanted, holds)?;
            let mut changes = self.changes_of(plan.unpacked)?;
            self.settle_first(&mut changes)?;
            let gate = self.inner.gate();
            if self.sharing(unwanted)? != plan.seen {
                // Somebody pulled, tagged or removed meanwhile.
                continue;
            }
            let gone = self.unpacked_one(unwanted, &uses()[..], &mut changes)?;
            changes.references = plan.changed;
            changes.gone_references.clone_from(&plan.gone);
            self.inner.records.apply(&changes)?;
            for new in &changes.images {
                if !new.retired {
                    self.inner.uses.forget(&new.id());
                }
            }
            if let Some(image) = unwanted.image {
                done.extend(plan.gone.iter().map(|name| Removal::Untagged {
                    name: name.familiar(),
                    image,
                }));
            }
            done.push(Removal::Manifest {
                digest: unwanted.manifest.digest,
                image: unwanted.image,
            });
            let mut blobs: Vec<Digest> = unwanted.reach.digests().collect();
            blobs.extend(plan.seen.iter().map(|(_, record)| record.target.digest));
            let mut chains = Vec::new();
            if let Some(record) = gone {
                done.push(Removal::Image(record.id()));
                blobs.extend([record.manifest.digest, record.config.digest]);
                chains = chain_ids(&record.diff_ids);
            }
            let freed = self.inner.collect(&blobs, &chains)?;
            done.extend(
                freed
                    .into_iter()
                    .map(|(chain, freed)| Removal::Layer { chain, freed }),
            );
            drop(gate);
            self.inner.settling.later(&self.inner, changes.unsettled);
            return Ok(());
        }
        Err(ImageError::Conflict {
            attempt: format!("delete {}", unwanted.manifest.digest.short()),
            remedy: "try again",
            reason: "its names change all the time".into(),
        })
    }

    /// Takes away the unpacked image with this manifest, if there is one and nothing holds it; the gate is held.
    fn unpacked_one(
        &self,
        unwanted: &Unwanted,
        uses: &[ImageUse],
        changes: &mut Changes,
    ) -> Result<Option<ImageRecord>> {
        let Some(id) = unwanted.image else {
            return Ok(None);
        };
        let Some(record) = self.inner.records.image(&id)? else {
            return Ok(None);
        };
        if let Some(conflict) = self.conflict(&id, true, false, uses)? {
            return Err(conflict);
        }
        if record.retired {
            return Ok(None);
        }
        if uses.iter().any(|held| held.image == id) {
            self.inner.uses.retire(id);
            changes.images.push(ImageRecord {
                retired: true,
                ..record.clone()
            });
        } else {
            changes.gone_images.push(id);
        }
        Ok(Some(record))
    }

    /// The names that keep the manifest, or stand for its image.
    fn sharing(&self, unwanted: &Unwanted) -> Result<Vec<(Reference, ReferenceRecord)>> {
        let mut names = self.inner.records.references()?;
        names.retain(|(_, record)| {
            Some(record.image) == unwanted.image || record.keeps.contains(&unwanted.manifest.digest)
        });
        Ok(names)
    }

    /// Decides what becomes of every name, and unpacks the images that some stand for then; `holds` keeps those.
    fn plan(&self, unwanted: &Unwanted, holds: &mut Holds) -> Result<Plan> {
        let mut plan = Plan {
            seen: self.sharing(unwanted)?,
            ..Plan::default()
        };
        for (name, record) in plan.seen.clone() {
            let left = self.reach_without(&record.target, Some(&unwanted.manifest.digest))?;
            let kept: HashSet<Digest> = left.digests().collect();
            let mut keeps = record.keeps.clone();
            keeps.retain(|digest| kept.contains(digest));
            let mut image = record.image;
            if Some(image) == unwanted.image {
                match self.stand_in(&record.target, unwanted, holds, &mut plan.unpacked)? {
                    Some(other) => image = other,
                    None => {
                        plan.gone.push(name);
                        continue;
                    }
                }
            }
            let record = ReferenceRecord {
                image,
                keeps,
                ..record
            };
            plan.changed.push((name, record));
        }
        Ok(plan)
    }

    /// The image that a name stands for when the unwanted one is gone: the one that suits this machine best, else the
    /// first of the index that is here whole. It is unpacked.
    fn stand_in(
        &self,
        target: &Descriptor,
        unwanted: &Unwanted,
        holds: &mut Holds,
        unpacked: &mut Vec<NewImage>,
    ) -> Result<Option<ImageId>> {
        let host = &self.inner.settings.platform;
        let mut others: Vec<(Option<u8>, ManifestView)> = Vec::new();
        for view in self.manifests_of(target.clone())? {
            let ManifestKind::Image {
                platform,
                unpacked: as_image,
            } = &view.kind
            else {
                continue;
            };
            let same = view.descriptor.digest == unwanted.manifest.digest
                || as_image.is_some_and(|(id, _)| Some(id) == unwanted.image);
            if !same && (view.available || as_image.is_some()) {
                others.push((platform.suitability(host), view));
            }
        }
        others.sort_by_key(|(suits, _)| suits.unwrap_or(u8::MAX));
        let Some((_, view)) = others.into_iter().next() else {
            return Ok(None);
        };
        let object = format!("image {}", view.descriptor.digest.short());
        let lacking = || ImageError::ContentMissing {
            content: view.descriptor.digest.short(),
        };
        let read =
            |digest: &Digest, limit| self.inner.blobs.read(digest, limit)?.ok_or_else(lacking);
        for digest in self.reach_without(&view.descriptor, None)?.digests() {
            holds.blob(&self.inner, digest);
        }
        let bytes = read(&view.descriptor.digest, limits::MANIFEST_BYTES_MAX)?;
        let Document::Manifest(manifest) =
            Document::parse(&bytes, Some(&view.descriptor.media_type), &object)?
        else {
            return Ok(None);
        };
        let id = manifest.config.digest;
        if unpacked.iter().any(|new| new.config.digest == id) {
            return Ok(Some(id));
        }
        let bytes = read(&id, limits::CONFIG_BYTES_MAX)?;
        let document: ImageDocument = parse_json(&bytes, &object)?;
        check_document(&document, manifest.layers.len(), &object)?;
        let chain = chain_ids(&document.rootfs.diff_ids);
        for layer in &chain {
            holds.layer(&self.inner, *layer);
        }
        let silent = crate::progress::silent();
        for (index, layer) in manifest.layers.iter().enumerate() {
            let diff_id = &document.rootfs.diff_ids[index];
            self.unpack_stored(&chain[..=index], diff_id, layer, &silent)?;
        }
        unpacked.push(NewImage {
            manifest: view.descriptor,
            config: manifest.config,
            document,
            names: Vec::new(),
            source: None,
            parent: None,
        });
        Ok(Some(id))
    }

    /// Everything here that a descriptor leads to, as if `without` were not.
    fn reach_without(&self, target: &Descriptor, without: Option<&Digest>) -> Result<Reach> {
        follow(
            target,
            |entry| match Some(&entry.digest) == without {
                true => Ok(None),
                false => self
                    .inner
                    .blobs
                    .read(&entry.digest, limits::MANIFEST_BYTES_MAX),
            },
            |entry| Ok(self.inner.blobs.contains(&entry.digest)),
        )
    }
}
