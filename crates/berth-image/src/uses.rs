//! Who uses images beyond names: containers being made, containers that outlive a forced removal, and when an image
//! was used last.
//!
//! Owns: leases of images, the images that only containers keep, and the moments of use, which are written with
//! the next change of the records or by [`ImageStore::save_uses`], never on the path of a start. Does not own:
//! containers; callers tell which images they use.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_types::{Digest, Timestamp};

use crate::documents::chain_ids;
use crate::error::{ImageError, Result};
use crate::records::{Changes, ImageRecord};
use crate::store::{Image, ImageId, ImageStore};

#[derive(Debug, Default)]
pub(crate) struct Uses {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    leases: HashMap<Digest, usize>,
    /// Images without a name or a place in lists, which containers made from them still need.
    retired: HashSet<Digest>,
    /// Moments of use that no record has yet.
    moments: HashMap<Digest, Timestamp>,
}

/// Keeps an image for as long as it lives: a container is being made from it, or it is being read.
#[derive(Debug)]
pub struct ImageLease {
    image: ImageId,
    state: Arc<Mutex<State>>,
}

impl Drop for ImageLease {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if let Some(count) = state.leases.get_mut(&self.image) {
            *count -= 1;
            if *count == 0 {
                state.leases.remove(&self.image);
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Uses {
    pub(crate) fn open(images: &[ImageRecord]) -> Self {
        let uses = Self::default();
        lock(&uses.state).retired = images
            .iter()
            .filter(|image| image.retired)
            .map(ImageRecord::id)
            .collect();
        uses
    }

    pub(crate) fn is_leased(&self, image: &ImageId) -> bool {
        lock(&self.state).leases.contains_key(image)
    }

    pub(crate) fn retire(&self, image: ImageId) {
        lock(&self.state).retired.insert(image);
    }

    /// The image is a common one again, or gone.
    pub(crate) fn forget(&self, image: &ImageId) {
        lock(&self.state).retired.remove(image);
    }
}

impl ImageStore {
    /// Finds an image in order to make a container from it: it stays while the lease lives, and counts as used now.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn take(&self, text: &str) -> Result<(Image, ImageLease)> {
        // A removal that has decided is let end first.
        let _gate = self.inner.gate();
        let image = self.resolve(text)?;
        let uses = &self.inner.uses;
        let mut state = lock(&uses.state);
        *state.leases.entry(image.id).or_default() += 1;
        state
            .moments
            .insert(image.id, std::time::SystemTime::now().into());
        let lease = ImageLease {
            image: image.id,
            state: uses.state.clone(),
        };
        Ok((image, lease))
    }

    /// The image that a container is made of, also one that was removed by force since and is in no list.
    ///
    /// # Errors
    /// When it is not there, or the records cannot be read.
    pub fn made_of(&self, id: &ImageId) -> Result<Image> {
        let record = self.inner.records.image(id)?;
        let record = record.ok_or_else(|| ImageError::NoSuchImage {
            reference: id.to_string(),
        })?;
        Ok(Image { id: *id, record })
    }

    /// Notes that an image is used now.
    pub fn note_use(&self, image: &ImageId) {
        let now = std::time::SystemTime::now().into();
        lock(&self.inner.uses.state).moments.insert(*image, now);
    }

    /// When an image was used last: a container was made or started, or it came here.
    #[must_use]
    pub fn last_used(&self, record: &ImageRecord) -> Timestamp {
        let noted = lock(&self.inner.uses.state)
            .moments
            .get(&record.id())
            .copied();
        [noted, record.last_used, record.last_tagged]
            .into_iter()
            .flatten()
            .fold(record.stored, Timestamp::max)
    }

    /// As [`Self::last_used`], by id; `None` when there is no such image.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn last_used_of(&self, image: &ImageId) -> Result<Option<Timestamp>> {
        let record = self.inner.records.image(image)?;
        Ok(record.map(|record| self.last_used(&record)))
    }

    /// Writes down the moments of use that no record has yet.
    ///
    /// # Errors
    /// When the records cannot be written; the moments are kept for the next time.
    pub fn save_uses(&self) -> Result<()> {
        let _gate = self.inner.gate();
        let moments = std::mem::take(&mut lock(&self.inner.uses.state).moments);
        if moments.is_empty() {
            return Ok(());
        }
        let mut images = Vec::new();
        for (id, moment) in &moments {
            if let Some(record) = self.inner.records.image(id)? {
                images.push(ImageRecord {
                    last_used: Some(*moment),
                    ..record
                });
            }
        }
        let saved = self.inner.records.apply(&Changes {
            images,
            ..Changes::default()
        });
        if saved.is_err() {
            let mut state = lock(&self.inner.uses.state);
            for (id, moment) in moments {
                state.moments.entry(id).or_insert(moment);
            }
        }
        saved
    }

    /// Whether there are images that only containers keep.
    #[must_use]
    pub fn has_retired(&self) -> bool {
        !lock(&self.inner.uses.state).retired.is_empty()
    }

    /// Removes the images that only containers kept and none keeps any more; `held` tells of the others. Asked
    /// when a container has gone, and after a start of the engine.
    ///
    /// # Errors
    /// When the records or the file system refuse.
    pub fn let_go(&self, held: impl Fn(&ImageId) -> bool) -> Result<()> {
        let _gate = self.inner.gate();
        let retired: Vec<Digest> = lock(&self.inner.uses.state)
            .retired
            .iter()
            .copied()
            .collect();
        for id in retired {
            if held(&id) || self.inner.uses.is_leased(&id) {
                continue;
            }
            let Some(record) = self.inner.records.image(&id)? else {
                self.inner.uses.forget(&id);
                continue;
            };
            self.inner.records.apply(&Changes {
                gone_images: vec![id],
                ..Changes::default()
            })?;
            self.inner.uses.forget(&id);
            self.inner.collect(
                &[record.manifest.digest, record.config.digest],
                &chain_ids(&record.diff_ids),
            )?;
        }
        Ok(())
    }
}

pub(crate) fn in_the_making(id: &ImageId) -> ImageError {
    ImageError::Conflict {
        attempt: format!("delete {}", id.short()),
        remedy: "cannot be forced",
        reason: "a container is being made from the image".into(),
    }
}
