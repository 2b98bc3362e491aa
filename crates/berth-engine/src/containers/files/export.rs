//! The whole file system of a container, and in what it differs from its image.

use std::io::Write;

use berth_image::Change;
use berth_image::archive::ArchiveWriter;
use berth_image::files::walk::open_root;
use berth_image::files::{PackOptions, pack};

use super::{Opened, mount_points};
use crate::containers::{Containers, announce, defect};
use crate::error::EngineError;

/// A container's file system, ready to be written.
#[derive(Debug)]
pub struct Export {
    view: Opened,
}

impl Export {
    /// Writes it as an archive. Blocks.
    ///
    /// # Errors
    /// When a file cannot be read, or the target takes no more.
    pub fn write_to<W: Write>(&self, target: W) -> Result<W, EngineError> {
        let root = open_root(self.view.root().descriptor())?;
        let mut archive = ArchiveWriter::new(target);
        pack(&root, &mut archive, &PackOptions::default())?;
        archive
            .finish()
            .map_err(|error| EngineError::io("write the archive", error))
    }
}

impl Containers {
    /// Opens a container's file system for an export, without what is mounted in it.
    ///
    /// # Errors
    /// `Conflict` when it is being removed.
    pub async fn export(&self, reference: &str) -> Result<Export, EngineError> {
        let container = self.find(reference)?.view();
        let view = self
            .with_files(&container, "export", self.view(&container, false))
            .await?;
        announce::of_view(&self.environment.events, &container, "export", &[]);
        Ok(Export { view })
    }

    /// In what a container's file system differs from its image.
    ///
    /// # Errors
    /// `Conflict` when it is being removed.
    pub async fn changes(&self, reference: &str) -> Result<Vec<Change>, EngineError> {
        let container = self.find(reference)?.view();
        let (images, subject) = (self.images.clone(), std::sync::Arc::clone(&container));
        self.with_files(&container, "list the changes of", async {
            tokio::task::spawn_blocking(move || {
                images.rootfs_changes(&subject.id, &subject.spec.image_id, &mount_points())
            })
            .await
            .map_err(defect)?
            .map_err(EngineError::from)
        })
        .await
    }
}
