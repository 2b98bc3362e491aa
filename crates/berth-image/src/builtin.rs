//! The image that comes with the program.

use berth_types::Digest;

use crate::error::Result;
use crate::progress::silent;
use crate::store::{ImageId, ImageStore};

/// The built-in image's name as people write it.
pub const BUILTIN_NAME: &str = "berth/hello:latest";

/// Whether this is the image that is built in, under whatever name.
#[must_use]
pub fn is_builtin(image: &Digest) -> bool {
    Digest::parse(berth_hello::IMAGE_ID).is_ok_and(|own| own == *image)
}

impl ImageStore {
    /// Loads the built-in image unless this very image is here under its name. Takes the way of every load.
    ///
    /// # Errors
    /// As [`ImageStore::load`].
    pub fn ensure_builtin(&self) -> Result<ImageId> {
        let wanted = Digest::parse(berth_hello::IMAGE_ID).ok();
        if let Ok(image) = self.resolve(BUILTIN_NAME)
            && Some(image.id) == wanted
        {
            return Ok(image.id);
        }
        let loaded = self.load(berth_hello::LAYOUT, &[], &silent())?;
        match loaded.first() {
            Some(image) => Ok(image.id),
            None => Ok(self.resolve(BUILTIN_NAME)?.id),
        }
    }
}
