//! Pushing images to a registry.
//!
//! Owns: the course of a push. What a name stands for is laid out as documents and the content they need
//! ([`plan`]); content that the repository lacks is taken over from other repositories of the registry or sent,
//! several at a time ([`blobs`]); documents follow, those that others refer to first.
//!
//! An image goes up exactly as it came: the same documents, the same layers. Only where a layer is not here in
//! the form that its manifest names, or was never compressed, is a form made for it ([`anew`]).
//!
//! Invariant: a manifest is put after everything that it refers to. A push whose caller goes away ends at the
//! next piece.

mod anew;
mod blobs;
mod plan;

use berth_types::{Digest, ErrorKind, Platform, Reference};
use tokio_util::sync::CancellationToken;

use crate::documents::Descriptor;
use crate::error::{ImageError, Result};
use crate::limits;
use crate::progress::{Progress, ProgressSink};
use crate::records::{Changes, ReferenceRecord};
use crate::registry::{Credentials, Purpose, Session};
use crate::store::{Holds, ImageStore};

pub use plan::Instead;

/// What a push is asked for.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// The name. Without a tag `latest` is meant, unless all tags are.
    pub reference: Reference,
    /// Push every tag of the repository.
    pub all_tags: bool,
    /// Push only the image for this platform.
    pub platform: Option<Platform>,
    /// Credentials for the registry.
    pub credentials: Option<Credentials>,
}

/// What a push put into the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The tag.
    pub tag: String,
    /// What the tag stands for there.
    pub digest: Digest,
    /// Bytes of that manifest or index.
    pub size: u64,
}

/// One push under way.
struct Push<'a> {
    store: &'a ImageStore,
    session: &'a Session<'a>,
    sources: &'a blobs::Sources,
    progress: &'a ProgressSink,
    cancelled: &'a CancellationToken,
}

impl ImageStore {
    /// Pushes an image, or every tag of a repository.
    ///
    /// Dropping the future ends the push.
    ///
    /// # Errors
    /// When nothing is known by the name, the registry does not take it, or content is not here.
    pub async fn push(&self, request: PushRequest, progress: ProgressSink) -> Result<Vec<Pushed>> {
        // A task of its own, so that what it holds is always let go.
        let cancelled = CancellationToken::new();
        let guard = cancelled.clone().drop_guard();
        let store = self.clone();
        let task = tokio::spawn(async move {
            let mut holds = Holds::default();
            let outcome = store
                .push_held(&request, &progress, &cancelled, &mut holds)
                .await;
            let releasing = store.clone();
            let released = tokio::task::spawn_blocking(move || releasing.release(holds)).await;
            let pushed = outcome?;
            flatten(released, "remove what is not needed")?;
            Ok(pushed)
        });
        let outcome = task.await;
        drop(guard);
        flatten(outcome, "push")
    }

    async fn push_held(
        &self,
        request: &PushRequest,
        progress: &ProgressSink,
        cancelled: &CancellationToken,
        holds: &mut Holds,
    ) -> Result<Vec<Pushed>> {
        let reference = &request.reference;
        if reference.digest().is_some() {
            return Err(ImageError::PushByDigest);
        }
        progress(Progress::PushingTo {
            repository: reference.name(),
        });
        let names = self.names_to_push(request)?;
        let sources = blobs::Sources::find(self, reference)?;
        let endpoint =
            self.inner
                .registry
                .registry(reference.registry(), reference.repository(), false);
        let purpose = Purpose::Push {
            sources: sources.repositories(),
        };
        let session = Session::with_purpose(
            &self.inner.registry,
            endpoint,
            request.credentials.as_ref(),
            purpose,
        );
        let push = Push {
            store: self,
            session: &session,
            sources: &sources,
            progress,
            cancelled,
        };
        let explained = |error| explained(error, reference);
        // What it answers tells nothing yet about this repository: the requests that follow do.
        session.reach().await.map_err(explained)?;
        let mut pushed = Vec::new();
        for (name, record) in names {
            let done = push
                .one(&name, &record, request.platform.as_ref(), holds)
                .await
                .map_err(explained)?;
            pushed.push(done);
        }
        Ok(pushed)
    }

    /// The names that are pushed, with what they stand for.
    fn names_to_push(&self, request: &PushRequest) -> Result<Vec<(Reference, ReferenceRecord)>> {
        let name = request.reference.name();
        let mut of_repository: Vec<(Reference, ReferenceRecord)> = self
            .inner
            .records
            .references()?
            .into_iter()
            .filter(|(reference, _)| reference.tag().is_some() && reference.name() == name)
            .collect();
        if of_repository.is_empty() {
            return Err(ImageError::NothingToPush {
                name: request.reference.familiar_name(),
            });
        }
        if request.all_tags {
            return Ok(of_repository);
        }
        let wanted = request.reference.clone().with_default_tag();
        of_repository.retain(|(reference, _)| *reference == wanted);
        if of_repository.is_empty() {
            return Err(ImageError::NoSuchTag {
                name: wanted.familiar(),
            });
        }
        Ok(of_repository)
    }
}

impl Push<'_> {
    /// Pushes what one name stands for.
    async fn one(
        &self,
        name: &Reference,
        record: &ReferenceRecord,
        platform: Option<&Platform>,
        holds: &mut Holds,
    ) -> Result<Pushed> {
        let tag = name.tag().unwrap_or_default().to_owned();
        let plan = self.lay_out(name, record, platform, holds).await?;
        self.bring_all(&plan.blobs).await?;
        let Some((target, bytes)) = plan.documents.last() else {
            return Err(ImageError::NoSuchImage {
                reference: name.familiar(),
            });
        };
        for (descriptor, bytes) in &plan.documents[..plan.documents.len() - 1] {
            self.session
                .put_manifest(
                    &descriptor.digest.to_string(),
                    &descriptor.media_type,
                    bytes,
                )
                .await?;
        }
        self.session
            .put_manifest(&tag, &target.media_type, bytes)
            .await?;
        let pushed = Pushed {
            tag,
            digest: target.digest,
            size: bytes.len() as u64,
        };
        let documents = plan.documents.clone();
        self.remember(name, record, target.clone(), documents)
            .await?;
        (self.progress)(Progress::Status(format!(
            "{}: digest: {} size: {}",
            pushed.tag, pushed.digest, pushed.size
        )));
        (self.progress)(Progress::Pushed(pushed.clone()));
        if let Some(instead) = plan.instead {
            (self.progress)(Progress::PushedInstead(Box::new(instead)));
        }
        Ok(pushed)
    }

    /// Makes known by which digest the image is found in the registry.
    async fn remember(
        &self,
        name: &Reference,
        record: &ReferenceRecord,
        target: Descriptor,
        documents: Vec<(Descriptor, Vec<u8>)>,
    ) -> Result<()> {
        let image = record.image;
        // What the other platforms need stays with every name of the whole index.
        let keeps = if target.digest == record.target.digest {
            record.keeps.clone()
        } else {
            Vec::new()
        };
        let store = self.store.clone();
        let by_digest = name.with_digest(target.digest);
        flatten(
            tokio::task::spawn_blocking(move || {
                for (descriptor, bytes) in &documents {
                    store
                        .inner
                        .blobs
                        .put(bytes, Some(&descriptor.digest), "a manifest")?;
                }
                store.barrier()?;
                let _gate = store.inner.gate();
                // Removed while it was on its way: then there is nothing to remember.
                if store.inner.records.image(&image)?.is_none() {
                    return Ok(());
                }
                store.inner.records.apply(&Changes {
                    references: vec![(by_digest, ReferenceRecord::new(target, image, keeps))],
                    ..Changes::default()
                })
            })
            .await,
            "remember what was pushed",
        )
    }
}

/// Registries answer in terms of their own; people asked for an image to be pushed.
pub(crate) fn explained(error: ImageError, reference: &Reference) -> ImageError {
    match error {
        ImageError::Registry {
            reason,
            kind: kind @ (ErrorKind::Unauthorized | ErrorKind::Forbidden),
            ..
        } => ImageError::Registry {
            attempt: format!(
                "push access denied for {}, repository does not exist or may require 'docker login'",
                reference.familiar_name()
            ),
            reason,
            kind,
        },
        other => other,
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

/// How many uploads run at a time.
fn uploads(store: &ImageStore) -> usize {
    store
        .inner
        .settings
        .registries
        .concurrent_uploads
        .clamp(1, limits::LAYERS_MAX)
}
