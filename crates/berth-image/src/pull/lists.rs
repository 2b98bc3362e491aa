//! What a registry lists about a repository, asked where a pull would ask.

use berth_types::Reference;

use super::{explained, is_own};
use crate::error::{ImageError, Result};
use crate::registry::{Credentials, Referrer, Session};
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

    /// What refers to a manifest: signatures, lists of parts, attestations that are kept beside an image.
    ///
    /// # Errors
    /// When no endpoint has the manifest or answers with a list.
    pub async fn referrers(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Referrer>> {
        let reference = crate::store::parse_name(&reference.to_string())?;
        let mut passed_over = None;
        for session in self.sessions(&reference, credentials)? {
            let found = referrers_at(&session, &reference).await;
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

async fn referrers_at(session: &Session<'_>, reference: &Reference) -> Result<Vec<Referrer>> {
    let digest = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => *digest,
        (None, tag) => session.manifest(tag.unwrap_or("latest")).await?.digest,
    };
    session.referrers(&digest).await
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
