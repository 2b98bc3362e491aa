//! What a registry lists about a repository, asked where a pull would ask.

use berth_types::{Digest, Platform, Reference};

use super::{explained, is_own};
use crate::documents::{Document, media};
use crate::error::{ImageError, Result};
use crate::limits;
use crate::registry::{Credentials, Referrers, Session};
use crate::remote::RemoteRequest;
use crate::store::ImageStore;

impl ImageStore {
    /// All tags of a repository, mirrors asked first.
    ///
    /// # Errors
    /// When no endpoint answers with a list.
    pub async fn remote_tags(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<String>> {
        let mut passed_over = None;
        for session in self.sessions(reference, credentials)? {
            let tags = session.tags().await;
            if let Some(tags) = judged(tags, &session, reference, &mut passed_over)? {
                return Ok(tags);
            }
        }
        Err(nowhere(passed_over, reference))
    }

    /// What refers to a manifest: signatures, lists of parts, attestations that are kept beside an image. With
    /// `platform` the manifest of that platform behind an index is meant, not the index.
    ///
    /// # Errors
    /// When no endpoint has the manifest or answers with a list.
    pub async fn referrers(
        &self,
        request: &RemoteRequest,
        platform: Option<&Platform>,
    ) -> Result<Referrers> {
        let reference = crate::store::parse_name(&request.reference.to_string())?;
        let credentials = request.credentials.as_ref();
        let sessions = match request.insecure {
            true => {
                let client = &self.inner.registry;
                let (registry, repository) = (reference.registry(), reference.repository());
                let endpoint = client.registry(registry, repository, true);
                vec![Session::new(client, endpoint, credentials)]
            }
            false => self.sessions(&reference, credentials)?,
        };
        let mut passed_over = None;
        for session in sessions {
            let found = referrers_at(&session, &reference, platform).await;
            if let Some(found) = judged(found, &session, &reference, &mut passed_over)? {
                return Ok(found);
            }
        }
        Err(nowhere(passed_over, &reference))
    }

    fn sessions(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Session<'_>>> {
        let client = &self.inner.registry;
        Ok(client
            .endpoints(reference)?
            .into_iter()
            .map(|endpoint| Session::new(client, endpoint, credentials))
            .collect())
    }
}

async fn referrers_at(
    session: &Session<'_>,
    reference: &Reference,
    platform: Option<&Platform>,
) -> Result<Referrers> {
    let subject = match (reference.digest(), platform) {
        (Some(digest), None) => *digest,
        _ => subject_at(session, reference, platform).await?,
    };
    let found = session.referrers(&subject).await?;
    Ok(Referrers { subject, found })
}

/// The manifest that a name stands for, or that of a platform behind it.
async fn subject_at(
    session: &Session<'_>,
    reference: &Reference,
    platform: Option<&Platform>,
) -> Result<Digest> {
    let mut wanted = match reference.digest() {
        Some(digest) => digest.to_string(),
        None => reference.tag().unwrap_or("latest").to_owned(),
    };
    for _ in 0..=limits::INDEX_DEPTH_MAX {
        let fetched = session.manifest(&wanted).await?;
        let Some(platform) = platform else {
            return Ok(fetched.digest);
        };
        let object = format!("manifest {wanted}");
        let Document::Index(index) =
            Document::parse(&fetched.bytes, fetched.media_type.as_deref(), &object)?
        else {
            return Ok(fetched.digest);
        };
        let entry = index.candidates(platform).first().copied().cloned();
        let entry = entry.ok_or_else(|| ImageError::NoPlatform {
            object,
            platform: platform.to_string(),
        })?;
        if !matches!(
            entry.media_type.as_str(),
            media::OCI_INDEX | media::DOCKER_INDEX
        ) {
            return Ok(entry.digest);
        }
        wanted = entry.digest.to_string();
    }
    Err(ImageError::Limit {
        object: format!("{}: nesting of indexes", reference.familiar()),
        limit: limits::INDEX_DEPTH_MAX as u64,
        unit: "levels",
    })
}

/// `None` when it was a mirror that failed, and the next place is to be asked.
fn judged<T>(
    outcome: Result<T>,
    session: &Session<'_>,
    reference: &Reference,
    passed_over: &mut Option<ImageError>,
) -> Result<Option<T>> {
    match outcome {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if session.is_mirror() && !is_own(&error) => {
            tracing::debug!(mirror = session.authority(), %error, "passed over");
            passed_over.get_or_insert(error);
            Ok(None)
        }
        Err(error) => Err(explained(error, reference)),
    }
}

fn nowhere(passed_over: Option<ImageError>, reference: &Reference) -> ImageError {
    passed_over.unwrap_or_else(|| ImageError::NoSuchImage {
        reference: reference.familiar(),
    })
}
