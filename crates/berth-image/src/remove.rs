//! Removing images with the rules that users know from `docker rmi`.
//!
//! A name is taken away; the image goes with its last name. By id, all names of one repository go at once.
//! Containers hold images: running ones always, stopped ones unless forced; what is forced loses its names and its
//! place in lists, and its layers stay for as long as a container is made of them.

use berth_types::Reference;

use crate::documents::chain_ids;
use crate::error::{ImageError, Result};
use crate::records::{Changes, ImageRecord};
use crate::store::{Image, ImageId, ImageStore};

/// A container that uses an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// The container's id.
    pub container: String,
    /// The image.
    pub image: ImageId,
    /// Whether it runs (paused counts).
    pub running: bool,
}

/// What is asked of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemoveRequest {
    /// Also when several names or stopped containers stand in the way.
    pub force: bool,
    /// Keep parents without a name.
    pub no_prune: bool,
}

/// One thing that a removal did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// A name is gone, as people write it. The image it stood for is told for events.
    Untagged {
        /// The name.
        name: String,
        /// Its image.
        image: ImageId,
    },
    /// The manifest of one platform of an image is gone.
    Manifest {
        /// Its digest.
        digest: berth_types::Digest,
        /// The image that it is when unpacked.
        image: Option<ImageId>,
    },
    /// An image is gone.
    Image(ImageId),
    /// A layer is gone.
    Layer {
        /// Its chain id.
        chain: berth_types::Digest,
        /// Bytes of its files and of its archive.
        freed: u64,
    },
}

const FORCIBLE: &str = "must be forced";
const FIRM: &str = "cannot be forced";

fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}

/// At most one tag, and all digests in the same repository as it.
fn is_single(names: &[Reference]) -> bool {
    if names.len() <= 1 {
        return names.len() == 1;
    }
    let (digests, tags): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.digest().is_some());
    let Some(first) = tags.first().or(digests.first()) else {
        return false;
    };
    tags.len() <= 1 && !digests.is_empty() && digests.iter().all(|name| name.name() == first.name())
}

impl ImageStore {
    /// Removes a name or an image. `uses` are all containers of the engine with their images.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`], or [`ImageError::Conflict`] when it is in use.
    pub fn remove(
        &self,
        text: &str,
        request: RemoveRequest,
        uses: &[ImageUse],
    ) -> Result<Vec<Removal>> {
        self.remove_unused(text, request, || uses.to_vec())
    }

    /// As [`Self::remove`], with the containers looked at when nobody can begin to make one from the image.
    ///
    /// # Errors
    /// As [`Self::remove`].
    pub fn remove_unused(
        &self,
        text: &str,
        request: RemoveRequest,
        uses: impl FnOnce() -> Vec<ImageUse>,
    ) -> Result<Vec<Removal>> {
        let _gate = self.inner.gate();
        let uses = &uses()[..];
        let (Image { id, .. }, by_name) = self.resolve_as(text)?;
        let names = self.names(&id)?;
        let mut done = Vec::new();
        let mut untag = Vec::new();
        match by_name {
            Some(name) => {
                if !request.force
                    && is_single(&names)
                    && let Some(holder) = uses.iter().find(|held| held.image == id)
                {
                    return Err(ImageError::Conflict {
                        attempt: format!("remove repository reference {text:?}"),
                        remedy: "must force",
                        reason: format!(
                            "container {} is using its referenced image {}",
                            short(&holder.container),
                            id.short()
                        ),
                    });
                }
                let mut left: Vec<Reference> =
                    names.into_iter().filter(|other| *other != name).collect();
                let is_tag = name.digest().is_none();
                let tag_left = left
                    .iter()
                    .any(|other| other.digest().is_none() && other.name() == name.name());
                untag.push(name.clone());
                if is_tag && !tag_left {
                    // Digests of a repository without any tag left would keep the image for nobody.
                    let (digests, others) = left
                        .into_iter()
                        .partition(|other| other.name() == name.name());
                    untag.extend::<Vec<Reference>>(digests);
                    left = others;
                }
                if !left.is_empty() {
                    self.untag(&id, untag, &mut done)?;
                    return Ok(done);
                }
                // The name goes in any case; the image only when nobody holds it.
                if self.conflict(&id, request.force, false, uses)?.is_some() {
                    self.untag(&id, untag, &mut done)?;
                    return Ok(done);
                }
            }
            None => {
                let single = is_single(&names);
                if let Some(conflict) = self.conflict(&id, request.force, !single, uses)? {
                    return Err(conflict);
                }
                untag = names;
            }
        }
        let mut current = Some((id, untag));
        while let Some((id, names)) = current.take() {
            let parent = self.delete(&id, names, uses, &mut done)?;
            if request.no_prune {
                break;
            }
            if let Some(parent) = parent
                && self.names(&parent)?.is_empty()
                && self.conflict(&parent, false, true, uses)?.is_none()
            {
                current = Some((parent, Vec::new()));
            }
        }
        Ok(done)
    }

    /// What keeps an image from being removed.
    pub(crate) fn conflict(
        &self,
        id: &ImageId,
        force: bool,
        names_count: bool,
        uses: &[ImageUse],
    ) -> Result<Option<ImageError>> {
        let conflict = |remedy, reason: String| {
            Some(ImageError::Conflict {
                attempt: format!("delete {}", id.short()),
                remedy,
                reason,
            })
        };
        if self.inner.uses.is_leased(id) {
            return Ok(Some(crate::uses::in_the_making(id)));
        }
        if self.inner.records.marks().has_children(id) {
            return Ok(conflict(FIRM, "image has dependent child images".into()));
        }
        let mut held = uses.iter().filter(|held| held.image == *id);
        if let Some(running) = held.clone().find(|held| held.running) {
            return Ok(conflict(
                FIRM,
                format!(
                    "image is being used by running container {}",
                    short(&running.container)
                ),
            ));
        }
        if force {
            return Ok(None);
        }
        if names_count && !self.names(id)?.is_empty() {
            return Ok(conflict(
                FORCIBLE,
                "image is referenced in multiple repositories".into(),
            ));
        }
        Ok(held.next().and_then(|stopped| {
            conflict(
                FORCIBLE,
                format!(
                    "image is being used by stopped container {}",
                    short(&stopped.container)
                ),
            )
        }))
    }

    fn untag(&self, id: &ImageId, names: Vec<Reference>, done: &mut Vec<Removal>) -> Result<()> {
        let mut targets = Vec::new();
        for name in &names {
            if let Some(record) = self.inner.records.reference(name)? {
                targets.push(record.target.digest);
                targets.extend(record.keeps);
            }
        }
        self.inner.records.apply(&Changes {
            gone_references: names.clone(),
            ..Changes::default()
        })?;
        done.extend(names.iter().map(|name| Removal::Untagged {
            name: name.familiar(),
            image: *id,
        }));
        self.inner.collect(&targets, &[])?;
        Ok(())
    }

    /// Removes the image with these names; gives its parent. Containers keep what they are made of.
    fn delete(
        &self,
        id: &ImageId,
        names: Vec<Reference>,
        uses: &[ImageUse],
        done: &mut Vec<Removal>,
    ) -> Result<Option<ImageId>> {
        let Some(record) = self.inner.records.image(id)? else {
            return Ok(None);
        };
        let mut blobs = vec![record.manifest.digest, record.config.digest];
        for name in &names {
            if let Some(record) = self.inner.records.reference(name)? {
                blobs.push(record.target.digest);
                blobs.extend(record.keeps);
            }
        }
        let (parent, chains) = (record.parent, chain_ids(&record.diff_ids));
        let mut changes = Changes {
            gone_references: names.clone(),
            ..Changes::default()
        };
        if uses.iter().any(|held| held.image == *id) {
            self.inner.uses.retire(*id);
            changes.images.push(ImageRecord {
                retired: true,
                ..record
            });
        } else {
            changes.gone_images.push(*id);
        }
        self.inner.records.apply(&changes)?;
        done.extend(names.iter().map(|name| Removal::Untagged {
            name: name.familiar(),
            image: *id,
        }));
        done.push(Removal::Image(*id));
        let gone = self.inner.collect(&blobs, &chains)?;
        done.extend(
            gone.into_iter()
                .map(|(chain, freed)| Removal::Layer { chain, freed }),
        );
        Ok(parent)
    }
}
