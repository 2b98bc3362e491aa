//! Searching a registry for repositories.
//!
//! Docker Hub and registries of its kind answer a search (`/v1/search`). Others at most list their repositories
//! (`/v2/_catalog`, distribution's specification of its API), which is then looked through here.

use berth_types::ErrorKind;
use serde::Deserialize;

use crate::error::{ImageError, Result};
use crate::limits;
use crate::registry::{Credentials, Purpose, Session, in_time, percent_encode};
use crate::store::ImageStore;

/// What is searched for.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    /// Words, with the registry in front when it is not Docker Hub.
    pub term: String,
    /// Most results.
    pub limit: usize,
    /// Credentials for the registry.
    pub credentials: Option<Credentials>,
}

/// A repository that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SearchFound {
    /// Its name.
    pub name: String,
    /// What its owner says about it.
    pub description: String,
    /// How many people like it.
    pub star_count: i64,
    /// Whether it is one of Docker's official images.
    pub is_official: bool,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    results: Option<Vec<SearchFound>>,
}

#[derive(Deserialize)]
struct Catalog {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

/// The index of Docker Hub.
const INDEX: &str = "index.docker.io";

/// Takes the registry off the words.
fn split(term: &str) -> Result<(&str, &str)> {
    if term.contains("://") {
        return Err(ImageError::Setting {
            setting: format!("search term {term:?}"),
            reason: "invalid repository name: it should not have a scheme".into(),
        });
    }
    let (first, rest) = term.split_once('/').unwrap_or(("", term));
    if matches!(first, "docker.io" | INDEX) {
        return Ok((INDEX, rest));
    }
    if first.contains(['.', ':']) || first == "localhost" {
        return Ok((first, rest));
    }
    Ok((INDEX, term))
}

impl ImageStore {
    /// Searches a registry.
    ///
    /// # Errors
    /// When the registry cannot be reached, does not let us search, or has nothing to search in.
    pub async fn search(&self, request: &SearchRequest) -> Result<Vec<SearchFound>> {
        let (registry, words) = split(&request.term)?;
        let endpoint = self.inner.registry.registry(registry, "", false);
        let session = Session::with_purpose(
            &self.inner.registry,
            endpoint,
            request.credentials.as_ref(),
            Purpose::Look,
        );
        let what = format!("search {registry} for {words:?}");
        if registry != INDEX {
            session.reach().await?;
        }
        let address = format!("/v1/search?q={}&n={}", percent_encode(words), request.limit);
        let refused = match session
            .look(&address, &what, limits::SEARCH_BYTES_MAX)
            .await
        {
            Ok((_, bytes)) => match serde_json::from_slice::<Page>(&bytes) {
                Ok(Page {
                    results: Some(mut found),
                }) => {
                    found.truncate(request.limit);
                    return Ok(found);
                }
                // Registries without a search answer with pages for people.
                _ => None,
            },
            Err(error) => Some(error),
        };
        let without_search = refused.as_ref().is_none_or(|error| {
            matches!(error, ImageError::Registry { kind, .. }
                if matches!(kind, ErrorKind::NotFound | ErrorKind::Internal | ErrorKind::Forbidden | ErrorKind::Unauthorized))
        });
        if registry == INDEX || !without_search {
            return Err(refused.unwrap_or_else(|| {
                ImageError::archive(format!("{what}: the answer"), "it is not a list of results")
            }));
        }
        let looking = self.look_through(&session, words, request.limit, &what);
        in_time(&what, looking).await
    }

    /// Looks for the words in the list of all repositories.
    async fn look_through(
        &self,
        session: &Session<'_>,
        words: &str,
        limit: usize,
        what: &str,
    ) -> Result<Vec<SearchFound>> {
        let mut address = format!("/v2/_catalog?n={}", limits::CATALOG_PAGE);
        let mut found = Vec::new();
        for _ in 0..limits::CATALOG_PAGES_MAX {
            let page = session.look(&address, what, limits::SEARCH_BYTES_MAX).await;
            let (headers, bytes) = page.map_err(|error| match error {
                ImageError::Registry { reason, kind, .. } => ImageError::Registry {
                    attempt: format!(
                        "{what}: the registry has no search, and does not list its repositories"
                    ),
                    reason,
                    kind,
                },
                other => other,
            })?;
            let catalog: Catalog =
                crate::documents::parse_json(&bytes, "the registry's list of its repositories")?;
            for name in catalog.repositories.unwrap_or_default() {
                if name.len() <= limits::REPOSITORY_BYTES_MAX && name.contains(words) {
                    found.push(SearchFound {
                        name,
                        ..SearchFound::default()
                    });
                }
                if found.len() == limit {
                    return Ok(found);
                }
            }
            match headers
                .get(http::header::LINK)
                .and_then(|link| next_page(link.to_str().ok()?))
            {
                Some(next) => address = next,
                None => return Ok(found),
            }
        }
        Err(ImageError::Limit {
            object: format!("{what}: the registry's list of its repositories"),
            limit: (limits::CATALOG_PAGES_MAX * limits::CATALOG_PAGE) as u64,
            unit: "repositories",
        })
    }
}

/// The path in `</v2/_catalog?last=x&n=100>; rel="next"` (RFC 8288). Other hosts are not followed to.
fn next_page(link: &str) -> Option<String> {
    let (address, relation) = link.trim().strip_prefix('<')?.split_once('>')?;
    if !relation.contains("next") {
        return None;
    }
    let path = match address.split_once("://") {
        Some((_, rest)) => &rest[rest.find('/')?..],
        None => address,
    };
    path.starts_with("/v2/_catalog?").then(|| path.to_owned())
}

/// For [`crate::fuzzing`].
///
/// # Panics
/// When another list would be followed to.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_page(text: &str) {
    if let Some(next) = next_page(text) {
        assert!(next.starts_with("/v2/_catalog?"));
    }
    let _ = split(text);
    let _ = serde_json::from_str::<Page>(text);
    let _ = serde_json::from_str::<Catalog>(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_taken_off_the_words() {
        for (term, registry, words) in [
            ("busybox", INDEX, "busybox"),
            ("me/app", INDEX, "me/app"),
            ("docker.io/me/app", INDEX, "me/app"),
            ("localhost/app", "localhost", "app"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000", "app"),
            ("registry.lan/", "registry.lan", ""),
        ] {
            assert_eq!(split(term).unwrap(), (registry, words), "{term}");
        }
        assert!(split("https://registry.lan/x").is_err());
    }

    #[test]
    fn pages_follow_on_the_same_registry() {
        assert_eq!(
            next_page(r#"</v2/_catalog?last=b&n=2>; rel="next""#).as_deref(),
            Some("/v2/_catalog?last=b&n=2")
        );
        assert_eq!(
            next_page(r#"<http://r:5000/v2/_catalog?n=2>; rel="next""#).as_deref(),
            Some("/v2/_catalog?n=2")
        );
        assert_eq!(next_page(r#"</etc/passwd>; rel="next""#), None);
        assert_eq!(next_page(r#"</v2/_catalog?n=2>; rel="prev""#), None);
    }
}
