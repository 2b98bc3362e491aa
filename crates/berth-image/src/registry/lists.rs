//! Lists that a registry gives page by page: tags of a repository, and what refers to a manifest.
//!
//! Owns: following pages within bounds. A `Link` to the next page is taken for its query alone: where the list is
//! was decided here.

use berth_types::{Digest, ErrorKind};
use http::HeaderMap;
use http::header::LINK;
use indexmap::{IndexMap, IndexSet};
use serde::Deserialize;

use super::session::{Asked, Session};
use crate::documents::{media, parse_json};
use crate::error::{ImageError, Result};
use crate::limits;

/// Something that refers to a manifest: a signature, a list of its parts, an attestation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// Media type of its manifest.
    #[serde(default)]
    pub media_type: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Bytes of its manifest.
    pub size: u64,
    /// What it is.
    #[serde(default)]
    pub artifact_type: String,
    /// What its maker says about it.
    #[serde(default)]
    pub annotations: IndexMap<String, String>,
}

/// What refers to one manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrers {
    /// Digest of the manifest.
    pub subject: Digest,
    /// What refers to it, in the registry's order.
    pub found: Vec<Referrer>,
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ReferrersPage {
    #[serde(default)]
    manifests: Vec<Referrer>,
}

impl Session<'_> {
    /// All tags of the repository, in the registry's order.
    pub(crate) async fn tags(&self) -> Result<Vec<String>> {
        let words = format!(
            "list the tags of {} at {}",
            self.endpoint.repository, self.endpoint.authority
        );
        let mut found: IndexSet<String> = IndexSet::new();
        self.pages("tags/list", "", &words, &[], |bytes, object| {
            let page: Tags = parse_json(bytes, object)?;
            found.extend(page.tags.unwrap_or_default());
            Ok(found.len())
        })
        .await?;
        Ok(found.into_iter().collect())
    }

    /// What refers to the manifest of this digest. A registry without the list (before version 1.1 of the
    /// distribution specification) is asked for the tag that clients keep in its place.
    pub(crate) async fn referrers(&self, digest: &Digest) -> Result<Vec<Referrer>> {
        let words = format!(
            "list what refers to {} of {} at {}",
            digest.short(),
            self.endpoint.repository,
            self.endpoint.authority
        );
        let mut found: Vec<Referrer> = Vec::new();
        let path = format!("referrers/{digest}");
        let listed = self
            .pages(&path, "", &words, &[media::OCI_INDEX], |bytes, object| {
                let page: ReferrersPage = parse_json(bytes, object)?;
                found.extend(page.manifests);
                Ok(found.len())
            })
            .await;
        match listed {
            Ok(()) => return Ok(found),
            Err(ImageError::Registry {
                kind: ErrorKind::NotFound,
                ..
            }) => {}
            Err(error) => return Err(error),
        }
        match self.manifest(&format!("sha256-{}", digest.hex())).await {
            Ok(fallback) => {
                let page: ReferrersPage = parse_json(&fallback.bytes, &words)?;
                Ok(page.manifests)
            }
            Err(ImageError::Registry {
                kind: ErrorKind::NotFound,
                ..
            }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Gives every page to `take`, which tells how many entries there are by then. All of them together have a time.
    async fn pages(
        &self,
        path: &str,
        query: &str,
        words: &str,
        accept: &[&str],
        take: impl FnMut(&[u8], &str) -> Result<usize>,
    ) -> Result<()> {
        let pages = self.page_by_page(path, query, words, accept, take);
        in_time(words, pages).await
    }

    async fn page_by_page(
        &self,
        path: &str,
        query: &str,
        words: &str,
        accept: &[&str],
        mut take: impl FnMut(&[u8], &str) -> Result<usize>,
    ) -> Result<()> {
        let asked = Asked {
            words: words.to_owned(),
            accept,
            range: None,
        };
        let object = format!("the answer to: {words}");
        let mut query = query.to_owned();
        let mut total = 0;
        for _ in 0..limits::LIST_PAGES_MAX {
            let target = if query.is_empty() {
                path.to_owned()
            } else {
                format!("{path}?{query}")
            };
            let (head, bytes) = self
                .small(&target, &asked, limits::LIST_PAGE_BYTES_MAX)
                .await?;
            total += bytes.len() as u64;
            if total > limits::LIST_BYTES_MAX {
                return Err(ImageError::Limit {
                    object,
                    limit: limits::LIST_BYTES_MAX,
                    unit: "bytes",
                });
            }
            if take(&bytes, &object)? > limits::LIST_ENTRIES_MAX {
                return Err(ImageError::Limit {
                    object,
                    limit: limits::LIST_ENTRIES_MAX as u64,
                    unit: "entries",
                });
            }
            match next_query(&head) {
                Some(next) if next != query => query = next,
                _ => return Ok(()),
            }
        }
        Err(ImageError::Limit {
            object,
            limit: limits::LIST_PAGES_MAX as u64,
            unit: "pages",
        })
    }
}

/// Lists of many pages, each within its own time, must not take for ever.
pub(crate) async fn in_time<T>(words: &str, list: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limits::LIST_TIMEOUT, list)
        .await
        .unwrap_or_else(|_| {
            Err(ImageError::Transport {
                attempt: words.to_owned(),
                source: format!(
                    "the list did not end within {} s",
                    limits::LIST_TIMEOUT.as_secs()
                )
                .into(),
            })
        })
}

/// The query of `Link: <…?query>; rel="next"` (RFC 8288).
fn next_query(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(LINK)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .find_map(|link| {
            let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            let next = parameters.split(';').any(|parameter| {
                let parameter = parameter.trim().to_ascii_lowercase();
                parameter == "rel=\"next\"" || parameter == "rel=next"
            });
            let (_, query) = target.split_once('?')?;
            next.then(|| query.to_owned())
        })
}

/// For [`crate::fuzzing`]: one text as the header that names the next page, and as a page.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(text: &str) {
    if let Ok(value) = http::HeaderValue::from_str(text) {
        let headers = HeaderMap::from_iter([(LINK, value)]);
        let _ = next_query(&headers);
    }
    let _ = parse_json::<Tags>(text.as_bytes(), "a page");
    let _ = parse_json::<ReferrersPage>(text.as_bytes(), "a page");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_known_by_its_query() {
        let next = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, text.parse().unwrap());
            next_query(&headers)
        };
        assert_eq!(
            next(r#"</v2/a/tags/list?last=b&n=2>; rel="next""#).as_deref(),
            Some("last=b&n=2")
        );
        assert_eq!(
            next(r#"<http://x/?a>; rel=prev, <https://evil.example/y?c=d>; rel=next"#).as_deref(),
            Some("c=d")
        );
        for none in [
            "",
            "<>",
            "</x>; rel=next",
            "</x?y>; rel=last",
            "x?y; rel=next",
        ] {
            assert_eq!(next(none), None, "{none}");
        }
    }
}
