//! Everything that is known about one image, for `inspect` and `history`.

use std::path::PathBuf;

use berth_types::{Digest, ImageDocument, Reference, Timestamp};

use crate::documents::{Descriptor, chain_ids};
use crate::error::{ImageError, Result};
use crate::store::ImageStore;

/// All about one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageView {
    /// The image's id.
    pub id: Digest,
    /// Names with tags, as people write them.
    pub repo_tags: Vec<String>,
    /// Names with digests, as people write them.
    pub repo_digests: Vec<String>,
    /// The image it was built upon.
    pub parent: Option<Digest>,
    /// Remark of its maker, else of the last step of its history.
    pub comment: String,
    /// Its configuration document: author, platform, `Config`, layers, history, unknown fields.
    pub document: ImageDocument,
    /// Version of the operating system, when the document has one.
    pub os_version: String,
    /// Version of the engine that made it, when the document has one.
    pub docker_version: String,
    /// Bytes of its layers.
    pub size: u64,
    /// When a name was last given to it by hand.
    pub last_tagged: Option<Timestamp>,
    /// The manifest it came with.
    pub manifest: Descriptor,
    /// Directories of its layers, topmost first.
    pub layer_directories: Vec<PathBuf>,
}

/// One step of an image's making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryStep {
    /// The image, for the last step; older steps made images that are not here.
    pub id: Option<Digest>,
    /// When.
    pub created: Option<Timestamp>,
    /// By which instruction.
    pub created_by: String,
    /// Names with tags of the image, for the last step.
    pub tags: Vec<String>,
    /// Bytes of the layer that it made.
    pub size: u64,
    /// Remark.
    pub comment: String,
}

fn tags(names: &[Reference]) -> Vec<String> {
    names
        .iter()
        .filter(|name| name.digest().is_none())
        .map(Reference::familiar)
        .collect()
}

impl ImageStore {
    /// All about the image that `text` names.
    ///
    /// # Errors
    /// When there is none, or its documents are damaged.
    pub fn inspect(&self, text: &str) -> Result<ImageView> {
        let image = self.resolve(text)?;
        let document = self.document(&image.id)?;
        let names = self.names(&image.id)?;
        let other = |key: &str| {
            document
                .other
                .get(key)
                .and_then(serde_json::Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let mut comment = other("comment");
        if comment.is_empty() {
            comment = document
                .history
                .last()
                .map(|step| step.comment.clone())
                .unwrap_or_default();
        }
        let chain = chain_ids(&image.record.diff_ids);
        Ok(ImageView {
            id: image.id,
            repo_tags: tags(&names),
            repo_digests: names
                .iter()
                .filter(|name| name.digest().is_some())
                .map(Reference::familiar)
                .collect(),
            parent: image.record.parent,
            comment,
            os_version: other("os.version"),
            docker_version: other("docker_version"),
            document,
            size: image.record.size,
            last_tagged: image.record.last_tagged,
            manifest: image.record.manifest,
            layer_directories: self.inner.layers.directories(&chain)?,
        })
    }

    /// The steps of the image's making, newest first.
    ///
    /// # Errors
    /// When there is no such image, or its history has more layers than the image.
    pub fn history(&self, text: &str) -> Result<Vec<HistoryStep>> {
        let image = self.resolve(text)?;
        let document = self.document(&image.id)?;
        let mut layers = chain_ids(&image.record.diff_ids).into_iter();
        let mut steps = Vec::with_capacity(document.history.len());
        for step in &document.history {
            let size = if step.empty_layer {
                0
            } else {
                let chain = layers.next().ok_or_else(|| {
                    ImageError::archive(
                        format!("history of image {}", image.id.short()),
                        "it has more layers than the image",
                    )
                })?;
                self.inner.layers.get(&chain).map_or(0, |layer| layer.size)
            };
            steps.push(HistoryStep {
                id: None,
                created: step
                    .created
                    .as_deref()
                    .and_then(|text| Timestamp::parse(text).ok()),
                created_by: step.created_by.clone(),
                tags: Vec::new(),
                size,
                comment: step.comment.clone(),
            });
        }
        steps.reverse();
        if let Some(last) = steps.first_mut() {
            last.id = Some(image.id);
            last.tags = tags(&self.names(&image.id)?);
        }
        Ok(steps)
    }
}
