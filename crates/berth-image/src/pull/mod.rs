//! Pulling an image from a registry.
//!
//! Owns: the course of a pull. Names are resolved at the first endpoint that has them; the manifest for the
//! platform is chosen; layers that are missing are fetched side by side, each hashed, written, decompressed
//! and unpacked while it arrives; then the layers are fitted in order and everything becomes known at once.
//!
//! ```text
//! network ─pieces─▶ store and hash ─file─▶ decompress ─chunks─▶ hash and unpack
//! (tasks)           (thread)               (thread)            (thread)
//! ```
//!
//! A pull whose caller goes away ends at the next piece, and lets go of what it brought. Of a layer that came in part,
//! what came stays for a while ([`crate::partials`]): the next pull asks for the rest alone.

mod arrival;
mod download;
mod layers;
mod lists;
mod platforms;

use berth_types::{Digest, ErrorKind, ImageDocument, Platform, Reference};
use tokio_util::sync::CancellationToken;

use crate::documents::{Descriptor, Document, Manifest, check_document, media, parse_json};
use crate::error::{ImageError, Result};
use crate::limits;
use crate::progress::{Progress, ProgressSink};
use crate::registry::{Credentials, Fetched, Session};
use crate::store::{Holds, ImageId, ImageStore, NewImage, NewName};

/// What a pull is asked for.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// The image; without tag and digest `latest` is meant.
    pub reference: Reference,
    /// The platform; the store's own when not given.
    pub platform: Option<Platform>,
    /// Credentials for the registry. Mirrors never see them.
    pub credentials: Option<Credentials>,
    /// Keep the images of all other platforms as well, and what is attested about them. They are not unpacked.
    pub all_platforms: bool,
}

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image.
    pub id: ImageId,
    /// The name it is known by, with its tag or digest.
    pub name: Reference,
    /// What the name stands for: the digest of the manifest or index.
    pub digest: Digest,
    /// Whether anything changed here.
    pub newer: bool,
}

/// A manifest chosen for a platform.
struct Chosen {
    /// What the name stands for.
    target: Descriptor,
    manifest: Descriptor,
    document: Manifest,
    /// All manifests and indexes on the way, with their bytes.
    documents: Vec<(Digest, Vec<u8>)>,
}

impl ImageStore {
    /// Pulls an image; the answer comes when it is durable.
    ///
    /// Dropping the future ends the pull.
    ///
    /// # Errors
    /// When no endpoint has the image or lets us have it, when what comes does not match its digests or
    /// exceeds a limit, and when it cannot be stored. Nothing becomes known then.
    pub async fn pull(&self, request: PullRequest, progress: ProgressSink) -> Result<Pulled> {
        // A task of its own, so that workers are always waited for and holds always let go.
        let cancelled = CancellationToken::new();
        let guard = cancelled.clone().drop_guard();
        let store = self.clone();
        let task = tokio::spawn(async move {
            let mut holds = Holds::default();
            let outcome = store
                .pull_held(&request, &progress, &cancelled, &mut holds)
                .await;
            let releasing = store.clone();
            let released = tokio::task::spawn_blocking(move || releasing.release(holds)).await;
            let pulled = outcome?;
            flatten(released, "remove what is not needed")?;
            Ok(pulled)
        });
        let outcome = task.await;
        drop(guard);
        flatten(outcome, "pull")
    }

    async fn pull_held(
        &self,
        request: &PullRequest,
        progress: &ProgressSink,
        cancelled: &CancellationToken,
        holds: &mut Holds,
    ) -> Result<Pulled> {
        let reference = crate::store::parse_name(&request.reference.to_string())?;
        let wanted = reference
            .digest()
            .map(Digest::to_string)
            .or_else(|| reference.tag().map(str::to_owned))
            .unwrap_or_default();
        let mut passed_over = None;
        for endpoint in self.inner.registry.endpoints(&reference)? {
            let session =
                Session::new(&self.inner.registry, endpoint, request.credentials.as_ref());
            let attempt = self.pull_from(
                &session, &reference, &wanted, request, progress, cancelled, holds,
            );
            match attempt.await {
                Err(error) if session.is_mirror() && !is_own(&error) => {
                    tracing::debug!(mirror = session.authority(), %error, "passed over");
                    passed_over.get_or_insert(error);
                }
                Err(error) => return Err(explained(error, &reference)),
                Ok(pulled) => return Ok(pulled),
            }
        }
        Err(passed_over.unwrap_or_else(|| ImageError::NoSuchImage {
            reference: reference.familiar(),
        }))
    }

    #[allow(clippy::too_many_arguments)]
    async fn pull_from(
        &self,
        session: &Session<'_>,
        reference: &Reference,
        wanted: &str,
        request: &PullRequest,
        progress: &ProgressSink,
        cancelled: &CancellationToken,
        holds: &mut Holds,
    ) -> Result<Pulled> {
        // Told only now: whoever asks for what is not there is answered with that alone.
        let begins = || {
            progress(Progress::Pulling {
                tag: wanted.to_owned(),
                repository: reference.repository().to_owned(),
            });
        };
        let chosen = self
            .choose(session, wanted, request.platform.as_ref(), begins)
            .await?;
        for (digest, _) in &chosen.documents {
            holds.blob(&self.inner, *digest);
        }
        let (config, document) = self.config(session, &chosen, holds).await?;
        let object = format!("image {}", reference.familiar());
        check_document(&document, chosen.document.layers.len(), &object)?;
        if let Some(platform) = &request.platform {
            let actual =
                Platform::normalised(&document.os, &document.architecture, &document.variant);
            if actual.suitability(platform).is_none() {
                return Err(ImageError::NoPlatform {
                    object: format!("{object}, which is for {actual},"),
                    platform: platform.to_string(),
                });
            }
        }
        self.fetch_layers(
            session,
            &chosen.document,
            &document,
            progress,
            cancelled,
            holds,
        )
        .await?;
        let keeps = if request.all_platforms {
            self.fetch_others(session, &chosen, progress, cancelled, holds)
                .await?
        } else {
            Vec::new()
        };
        let store = self.clone();
        let name = reference.clone();
        let target = chosen.target.clone();
        let (id, newer) = flatten(
            tokio::task::spawn_blocking(move || {
                store.finish(name, chosen, config, document, keeps)
            })
            .await,
            "store the image",
        )?;
        progress(Progress::Digest(target.digest));
        let familiar = reference.familiar();
        progress(Progress::Status(if newer {
            format!("Status: Downloaded newer image for {familiar}")
        } else {
            format!("Status: Image is up to date for {familiar}")
        }));
        Ok(Pulled {
            id,
            name: reference.clone(),
            digest: target.digest,
            newer,
        })
    }

    /// Stores the documents and makes the image known.
    fn finish(
        &self,
        name: Reference,
        chosen: Chosen,
        config: (Descriptor, Vec<u8>),
        document: ImageDocument,
        keeps: Vec<Digest>,
    ) -> Result<(ImageId, bool)> {
        let (config, config_bytes) = config;
        for (digest, bytes) in &chosen.documents {
            self.inner.blobs.put(bytes, Some(digest), "a manifest")?;
        }
        self.inner
            .blobs
            .put(&config_bytes, Some(&config.digest), "a configuration")?;
        let id = config.digest;
        let by_digest = name.with_digest(chosen.target.digest);
        let source = name.name();
        let known = self.inner.records.reference(&name)?;
        let newer = known
            .as_ref()
            .is_none_or(|known| known.image != id || known.target.digest != chosen.target.digest)
            || self.inner.records.image(&id)?.is_none();
        let new = |name| NewName {
            name,
            target: chosen.target.clone(),
            keeps: keeps.clone(),
        };
        let mut names = vec![new(by_digest)];
        if name.digest().is_none() {
            names.push(new(name));
        }
        self.commit(vec![NewImage {
            manifest: chosen.manifest,
            config,
            document,
            names,
            source: Some(source),
            parent: None,
        }])?;
        Ok((id, newer))
    }

    /// Goes from the name to a manifest for the platform; `begins` is called once the name is known to be there.
    async fn choose(
        &self,
        session: &Session<'_>,
        wanted: &str,
        platform: Option<&Platform>,
        begins: impl FnOnce(),
    ) -> Result<Chosen> {
        let platform = platform.unwrap_or(&self.inner.settings.platform);
        let mut documents = Vec::new();
        let Fetched {
            bytes,
            media_type,
            digest,
        } = session.manifest(wanted).await?;
        begins();
        let object = format!("manifest {wanted}");
        let mut document = Document::parse(&bytes, media_type.as_deref(), &object)?;
        let mut current = descriptor_of(&document, media_type.as_deref(), digest, &bytes);
        let target = current.clone();
        documents.push((digest, bytes));
        for _ in 0..=limits::INDEX_DEPTH_MAX {
            let index = match document {
                Document::Manifest(manifest) => {
                    return Ok(Chosen {
                        target,
                        manifest: current,
                        document: *manifest,
                        documents,
                    });
                }
                Document::Index(index) => index,
            };
            let entry = index.candidates(platform).first().copied().cloned();
            let entry = entry.ok_or_else(|| ImageError::NoPlatform {
                object: object.clone(),
                platform: platform.to_string(),
            })?;
            let object = format!("manifest {}", entry.digest.short());
            // What is here need not be asked for again: indexes change more often than manifests.
            let bytes = match self
                .inner
                .blobs
                .read(&entry.digest, limits::MANIFEST_BYTES_MAX)?
            {
                Some(bytes) => bytes,
                None => session.manifest(&entry.digest.to_string()).await?.bytes,
            };
            if bytes.len() as u64 != entry.size {
                return Err(ImageError::Size {
                    object,
                    expected: entry.size,
                    actual: bytes.len() as u64,
                });
            }
            document = Document::parse(&bytes, Some(&entry.media_type), &object)?;
            documents.push((entry.digest, bytes));
            current = entry;
        }
        Err(ImageError::Limit {
            object: format!("{object}: nesting of indexes"),
            limit: limits::INDEX_DEPTH_MAX as u64,
            unit: "levels",
        })
    }

    async fn config(
        &self,
        session: &Session<'_>,
        chosen: &Chosen,
        holds: &mut Holds,
    ) -> Result<((Descriptor, Vec<u8>), ImageDocument)> {
        let descriptor = chosen.document.config.clone();
        let object = format!("image configuration {}", descriptor.digest.short());
        if descriptor.size > limits::CONFIG_BYTES_MAX {
            return Err(ImageError::Limit {
                object,
                limit: limits::CONFIG_BYTES_MAX,
                unit: "bytes",
            });
        }
        holds.blob(&self.inner, descriptor.digest);
        let stored = self
            .inner
            .blobs
            .read(&descriptor.digest, limits::CONFIG_BYTES_MAX)?;
        let bytes = match stored {
            Some(bytes) => bytes,
            None => {
                session
                    .small_blob(&descriptor.digest, descriptor.size)
                    .await?
            }
        };
        let actual = crate::stream::digest_of(&bytes);
        if actual != descriptor.digest {
            return Err(ImageError::Digest {
                object,
                expected: descriptor.digest,
                actual,
            });
        }
        let document = parse_json(&bytes, &object)?;
        Ok(((descriptor, bytes), document))
    }
}

/// Failures that another endpoint cannot help with.
fn is_own(error: &ImageError) -> bool {
    matches!(
        error,
        ImageError::Io { .. }
            | ImageError::Database { .. }
            | ImageError::Schema { .. }
            | ImageError::Cancelled { .. }
            | ImageError::Setting { .. }
    )
}

/// Registries answer in terms of their own; people asked for an image.
fn explained(error: ImageError, reference: &Reference) -> ImageError {
    match error {
        ImageError::Registry {
            reason,
            kind: ErrorKind::NotFound,
            ..
        } => ImageError::Registry {
            attempt: match reference.tag().is_some() || reference.digest().is_some() {
                true => format!("manifest for {} not found", reference.familiar()),
                false => format!("repository {} not found", reference.familiar_name()),
            },
            reason,
            kind: ErrorKind::NotFound,
        },
        ImageError::Registry {
            reason,
            kind: ErrorKind::Unauthorized | ErrorKind::Forbidden,
            ..
        } => {
            ImageError::Registry {
                attempt: format!(
                    "pull access denied for {}, repository does not exist or may require 'docker login'",
                    reference.familiar_name()
                ),
                reason,
                // Registries hide what is private behind the same answer as what is not there.
                kind: ErrorKind::NotFound,
            }
        }
        other => other,
    }
}

fn descriptor_of(
    document: &Document,
    media_type: Option<&str>,
    digest: Digest,
    bytes: &[u8],
) -> Descriptor {
    let (stated, usual) = match document {
        Document::Manifest(manifest) => (manifest.media_type.clone(), media::OCI_MANIFEST),
        Document::Index(index) => (index.media_type.clone(), media::OCI_INDEX),
    };
    Descriptor {
        media_type: stated
            .or_else(|| media_type.map(str::to_owned))
            .filter(|text| text.starts_with("application/vnd."))
            .unwrap_or_else(|| usual.to_owned()),
        digest,
        size: bytes.len() as u64,
        urls: None,
        annotations: None,
        platform: None,
    }
}

/// The result of a task, whose panic or end is an error like others.
fn flatten<T>(
    outcome: std::result::Result<Result<T>, tokio::task::JoinError>,
    attempt: &str,
) -> Result<T> {
    outcome.unwrap_or_else(|_| {
        Err(ImageError::Cancelled {
            attempt: attempt.to_owned(),
        })
    })
}
