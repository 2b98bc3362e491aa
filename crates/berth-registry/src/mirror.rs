//! A cache of another registry: what is asked for is fetched there, kept here, and served from here from then on.
//!
//! Owns: the fetches under way. A manifest is fetched when it is not here; a tag is asked for again when its last
//! confirmation is no longer fresh. Content is fetched once however many ask, and goes to all of them while it
//! comes; the last byte only once the whole is verified and on disk. An upstream that is away hides nothing that
//! is here. Only content that a manifest of the repository names is ever fetched.

mod fetch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_image::ImageError;
use berth_image::registry::{Credentials, UpstreamRegistry, UpstreamSettings};
use berth_types::ErrorKind;
use http::StatusCode;
use tokio::sync::Semaphore;

use crate::digest::ContentDigest;
use crate::error::{RegistryError, Result};
use crate::limits;
use crate::manifest::Manifest;
use crate::name::{Reference, Repository, Tag};
use crate::records::now;
use crate::refusal::{Code, Refusal};
use crate::registry::blocking;
use crate::settings::Upstream;
use crate::store::Store;

pub(crate) use fetch::{Coming, Fetch};

type Turns = Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>;

/// The upstream and what is on its way from there.
#[derive(Debug)]
pub(crate) struct Mirror {
    upstream: Arc<UpstreamRegistry>,
    fresh: i64,
    store: Arc<Store>,
    /// One entry for each manifest being asked for.
    turns: Turns,
    fetches: Arc<Mutex<HashMap<ContentDigest, Arc<Fetch>>>>,
    slots: Arc<Semaphore>,
    /// Until when the upstream is not asked for what is here.
    away: Mutex<Option<Instant>>,
}

impl Mirror {
    pub(crate) fn new(settings: &Upstream, store: Arc<Store>) -> Result<Self> {
        let credentials = settings
            .credentials
            .clone()
            .map(|(username, password)| Credentials {
                username,
                password,
                ..Credentials::default()
            });
        let upstream = UpstreamRegistry::new(&UpstreamSettings {
            url: settings.url.clone(),
            credentials,
            certificate_files: settings.certificate_files.clone(),
            http_proxy: settings.http_proxy.clone(),
            https_proxy: settings.https_proxy.clone(),
            no_proxy: settings.no_proxy.clone(),
        })
        .map_err(|error| RegistryError::setting(format!("upstream {:?}", settings.url), error))?;
        Ok(Self {
            upstream: Arc::new(upstream),
            fresh: i64::try_from(settings.fresh.as_secs()).unwrap_or(i64::MAX),
            store,
            turns: Mutex::default(),
            fetches: Arc::default(),
            slots: Arc::new(Semaphore::new(limits::FETCHES_AT_ONCE)),
            away: Mutex::default(),
        })
    }

    /// Sees to it that a manifest is here and, when it is asked for by tag, that it is the one of the upstream.
    pub(crate) async fn manifest(
        &self,
        name: &Repository,
        reference: &Reference,
    ) -> std::result::Result<(), Refusal> {
        if self.is_here(name, reference).await? {
            return Ok(());
        }
        let turn = self.turn(format!("{name} {reference}"));
        let _turn = turn.lock().await;
        // Somebody before us may have done it.
        if self.is_here(name, reference).await? {
            return Ok(());
        }
        match reference {
            Reference::Digest(_) => self.fetch_manifest(name, reference).await.map_err(refusal),
            Reference::Tag(tag) => self.revalidate(name, tag, reference).await,
        }
    }

    /// Whether the upstream need not be asked.
    async fn is_here(&self, name: &Repository, reference: &Reference) -> Result<bool> {
        let (store, name, reference) = (Arc::clone(&self.store), name.clone(), reference.clone());
        let fresh = self.fresh;
        blocking(move || {
            let digest = match &reference {
                Reference::Digest(digest) => *digest,
                Reference::Tag(tag) => match store.records.tag(&name, tag)? {
                    Some(record) if now() - record.checked < fresh => {
                        match ContentDigest::parse(&record.digest) {
                            Ok(digest) => digest,
                            Err(_) => return Ok(false),
                        }
                    }
                    _ => return Ok(false),
                },
            };
            let Some(record) = store.records.manifest(&name, &digest)? else {
                return Ok(false);
            };
            if now() - record.used > limits::USE_NOTED_SECONDS {
                store.records.use_manifest(&name, &digest)?;
            }
            Ok(store.blobs.contains(&record.content))
        })
        .await
    }

    /// Asks the upstream about a tag that is not here or no longer fresh.
    async fn revalidate(
        &self,
        name: &Repository,
        tag: &Tag,
        reference: &Reference,
    ) -> std::result::Result<(), Refusal> {
        let (store, asked, asked_tag) = (Arc::clone(&self.store), name.clone(), tag.clone());
        let known = blocking(move || store.records.tag(&asked, &asked_tag)).await?;
        if let Some(record) = &known {
            if self.is_away() {
                return Ok(());
            }
            let now_there = self.upstream.digest(name.as_str(), tag.as_str()).await;
            if now_there.is_some_and(|digest| digest.to_string() == record.digest) {
                let (store, name, tag) = (Arc::clone(&self.store), name.clone(), tag.clone());
                blocking(move || store.records.confirm_tag(&name, &tag)).await?;
                return Ok(());
            }
        }
        match self.fetch_manifest(name, reference).await {
            Ok(()) => Ok(()),
            Err(Failure::Upstream(error)) if known.is_some() => match error.kind() {
                ErrorKind::NotFound => {
                    let (store, name, tag) = (Arc::clone(&self.store), name.clone(), tag.clone());
                    blocking(move || store.records.remove_tag(&name, &tag)).await?;
                    Err(refusal(Failure::Upstream(error)))
                }
                // It says no, and means it.
                ErrorKind::Unauthorized | ErrorKind::Forbidden => {
                    Err(refusal(Failure::Upstream(error)))
                }
                _ => {
                    tracing::warn!("{error}; {name}:{tag} is served as it was");
                    self.note_away();
                    Ok(())
                }
            },
            Err(failure) => Err(refusal(failure)),
        }
    }

    async fn fetch_manifest(
        &self,
        name: &Repository,
        reference: &Reference,
    ) -> std::result::Result<(), Failure> {
        let fetched = self
            .upstream
            .manifest(name.as_str(), &reference.to_string())
            .await
            .map_err(Failure::Upstream)?;
        let bad = |reason: String| Failure::Document(reason);
        let manifest =
            Manifest::parse(&fetched.bytes, fetched.media_type.as_deref()).map_err(bad)?;
        let (digest, tags) = match reference {
            Reference::Tag(tag) => (ContentDigest::Sha256(fetched.digest), vec![tag.clone()]),
            Reference::Digest(digest) => {
                let actual = ContentDigest::of(digest.algorithm(), &fetched.bytes);
                if actual != *digest {
                    return Err(bad(format!("it is {actual}")));
                }
                (*digest, Vec::new())
            }
        };
        let (store, name) = (Arc::clone(&self.store), name.clone());
        blocking(move || {
            store.put_manifest(&name, &digest, &manifest, &fetched.bytes, tags, false)
        })
        .await
        .map_err(Failure::Here)?;
        Ok(())
    }

    /// The fetch of a blob that is not here: a new one, or the one that is under way. `None` when no manifest of
    /// the repository names it, or when it has come meanwhile.
    pub(crate) async fn blob(
        &self,
        name: &Repository,
        digest: &ContentDigest,
    ) -> Result<Option<Arc<Fetch>>> {
        let (store, repository, wanted) = (Arc::clone(&self.store), name.clone(), *digest);
        let wants = blocking(move || {
            if !store.records.names_blob(&repository, &wanted)? {
                return Ok(false);
            }
            // Another repository may have it.
            Ok(store.mount(&repository, &wanted, None)?.is_none())
        })
        .await?;
        if !wants {
            return Ok(None);
        }
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetch) = fetches.get(digest) {
            return Ok(Some(Arc::clone(fetch)));
        }
        let fetch = Fetch::begin(&self.store)?;
        fetches.insert(*digest, Arc::clone(&fetch));
        drop(fetches);
        let (fetches, slots) = (Arc::clone(&self.fetches), Arc::clone(&self.slots));
        let (upstream, store) = (Arc::clone(&self.upstream), Arc::clone(&self.store));
        let (running, name, digest) = (Arc::clone(&fetch), name.clone(), *digest);
        // It goes on when those who asked have gone: the next one finds it.
        tokio::spawn(async move {
            // Never closed.
            let _slot = slots.acquire().await;
            running.run(&upstream, &store, &name, &digest).await;
            fetches
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&digest);
        });
        Ok(Some(fetch))
    }

    fn turn(&self, what: String) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody waits for those that only the table knows.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(what).or_default().clone()
    }

    fn is_away(&self) -> bool {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.is_some_and(|until| Instant::now() < until)
    }

    fn note_away(&self) {
        let until: Duration = limits::AWAY_PAUSE;
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + until);
    }
}

/// Why a manifest did not come.
#[derive(Debug)]
enum Failure {
    Upstream(ImageError),
    Document(String),
    Here(RegistryError),
}

fn refusal(failure: Failure) -> Refusal {
    match failure {
        Failure::Here(error) => error.into(),
        Failure::Document(reason) => Refusal::new(
            Code::ManifestInvalid,
            format!("the upstream's manifest is not taken: {reason}"),
        )
        .status(StatusCode::BAD_GATEWAY),
        Failure::Upstream(error) => refused_upstream(&error, Code::ManifestUnknown),
    }
}

/// What a client is told of an upstream's refusal.
pub(crate) fn refused_upstream(error: &ImageError, unknown: Code) -> Refusal {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    match error.kind() {
        ErrorKind::NotFound => Refusal::new(unknown, text),
        ErrorKind::Unauthorized | ErrorKind::Forbidden => Refusal::new(Code::Denied, text),
        ErrorKind::ResourceExhausted => Refusal::new(Code::TooManyRequests, text),
        _ => {
            tracing::warn!("{text}");
            Refusal::new(Code::Unknown, text).status(StatusCode::BAD_GATEWAY)
        }
    }
}
