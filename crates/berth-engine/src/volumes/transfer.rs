//! Volumes as archives: out of one, and into a new one.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use berth_image::archive::ArchiveWriter;
use berth_image::files::{ExtractOptions, PackOptions, extract, pack};
use berth_sys::path::Root;
use berth_types::ContainerId;
use indexmap::IndexMap;

use super::record::VolumeRecord;
use super::view::VolumeView;
use super::{Shared, Volumes, defect};
use crate::clock;
use crate::error::EngineError;

/// A volume that is about to be written as an archive.
#[derive(Debug)]
pub struct VolumeExport {
    shared: Arc<Shared>,
    record: Arc<VolumeRecord>,
    live: bool,
    still: HashSet<ContainerId>,
}

impl VolumeExport {
    /// Writes the archive. Blocks; what starts with the volume waits meanwhile.
    ///
    /// # Errors
    /// When a file cannot be read, or nobody takes the archive.
    pub fn write_to(self, out: impl Write) -> Result<(), EngineError> {
        let Self {
            shared,
            record,
            live,
            still,
        } = self;
        shared.with_content(&record, live, &still, |root| {
            let mut archive = ArchiveWriter::new(out);
            let options = PackOptions {
                prefix: b"./".to_vec(),
                with_root: true,
            };
            pack(root, &mut archive, &options)?;
            archive
                .finish()
                .map(drop)
                .map_err(|e| EngineError::io(format!("export volume {}", record.name), e))
        })
    }
}

impl Volumes {
    /// Begins an export. `still` are containers that run and cannot write now.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when a running container can write to the volume, unless it is taken `live`.
    pub(crate) fn export(
        &self,
        name: &str,
        live: bool,
        still: HashSet<ContainerId>,
    ) -> Result<VolumeExport, EngineError> {
        let record = Arc::clone(&self.shared.book().find_quiet(name)?.record);
        if !live {
            self.shared.check_still(name, &still)?;
        }
        Ok(VolumeExport {
            shared: Arc::clone(&self.shared),
            record,
            live,
            still,
        })
    }

    /// Makes a volume of an archive, which may be compressed. Durable when it answers; an archive that is damaged
    /// leaves nothing.
    ///
    /// # Errors
    /// `Conflict` when the name is in use; when the archive is damaged or asks for a place outside.
    pub async fn import(
        &self,
        name: &str,
        labels: IndexMap<String, String>,
        archive: impl Read + Send + 'static,
    ) -> Result<VolumeView, EngineError> {
        let shared = Arc::clone(&self.shared);
        let record = VolumeRecord {
            labels,
            ..VolumeRecord::new(name.to_owned(), clock::now())
        };
        shared.driver(&record)?.check(name, &IndexMap::new())?;
        tokio::spawn(async move {
            let made = shared.make_with(Arc::new(record), None, move |_, root| {
                let root = Root::from_descriptor(root);
                let options = ExtractOptions {
                    with_root: true,
                    ..ExtractOptions::default()
                };
                extract(&root, Path::new("/"), archive, options)?;
                Ok(())
            });
            made.await
        })
        .await
        .map_err(defect)?
    }
}
