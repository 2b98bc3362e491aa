//! Paths and queries of requests, as bytes from anybody. Pure.

use crate::digest::ContentDigest;
use crate::name::{Reference, ReferenceError, Repository};
use crate::refusal::{Code, Refusal};

/// What a path means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(Repository),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(Repository, Reference),
    /// `/v2/<name>/blobs/<digest>`
    Blob(Repository, ContentDigest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(Repository),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(Repository, String),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(Repository, ContentDigest),
}

impl Route {
    /// Reads a path.
    ///
    /// # Errors
    /// When it leads nowhere, or names something that cannot be.
    pub(crate) fn parse(path: &str) -> Result<Self, Refusal> {
        let decoded = decode(path).ok_or_else(Refusal::no_route)?;
        let rest = match decoded.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Base),
            Some(rest) => rest.strip_prefix('/').ok_or_else(Refusal::no_route)?,
            None => return Err(Refusal::no_route()),
        };
        if rest.trim_end_matches('/') == "_catalog" {
            return Ok(Self::Catalog);
        }
        // From the end, since names of repositories may have any of these words in them.
        let (front, last) = rest.rsplit_once('/').ok_or_else(Refusal::no_route)?;
        if let Some(name) = front.strip_suffix("/blobs/uploads") {
            return Ok(if last.is_empty() {
                Self::Uploads(repository(name)?)
            } else {
                Self::Upload(repository(name)?, last.to_owned())
            });
        }
        let (name, kind) = front.rsplit_once('/').ok_or_else(Refusal::no_route)?;
        match (kind, last) {
            ("tags", "list") => Ok(Self::Tags(repository(name)?)),
            ("blobs", "uploads") => Ok(Self::Uploads(repository(name)?)),
            ("blobs", digest) => Ok(Self::Blob(repository(name)?, ContentDigest::parse(digest)?)),
            ("referrers", digest) => Ok(Self::Referrers(
                repository(name)?,
                ContentDigest::parse(digest)?,
            )),
            ("manifests", text) => {
                let name = repository(name)?;
                let reference = Reference::parse(text).map_err(|error| match error {
                    ReferenceError::Digest(error) => error.into(),
                    ReferenceError::Form => Refusal::new(
                        Code::ManifestInvalid,
                        format!("{:?} is neither a tag nor a digest", cut(text)),
                    ),
                })?;
                Ok(Self::Manifest(name, reference))
            }
            _ => Err(Refusal::no_route()),
        }
    }
}

fn repository(text: &str) -> Result<Repository, Refusal> {
    Repository::parse(text).ok_or_else(|| {
        Refusal::new(
            Code::NameInvalid,
            format!("invalid repository name {:?}", cut(text)),
        )
    })
}

fn cut(text: &str) -> String {
    text.chars().take(160).collect()
}

/// The parameters of a query, in the order given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query. `+` stays what it is: media types have it, and nothing here has spaces.
    ///
    /// # Errors
    /// When it is no text.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let bad = || {
            Refusal::new(Code::Unsupported, "the query cannot be read")
                .status(http::StatusCode::BAD_REQUEST)
        };
        if text.len() > crate::limits::QUERY_BYTES_MAX {
            return Err(bad().status(http::StatusCode::URI_TOO_LONG));
        }
        text.split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((decode(name)?, decode(value)?))
            })
            .collect::<Option<_>>()
            .map(Self)
            .ok_or_else(bad)
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Removes percent-encoding; `None` when that is damaged or gives no text, or a control character.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            u8::try_from(high << 4 | low).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains(char::is_control))
}

/// Writes a value of a query.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_their_end() {
        let name = |text: &str| Repository::parse(text).unwrap();
        let hex = "ab".repeat(32);
        let digest = ContentDigest::parse(&format!("sha256:{hex}")).unwrap();
        let tag = Reference::parse("list").unwrap();
        for (path, route) in [
            ("/v2/", Route::Base),
            ("/v2", Route::Base),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/a/tags/list", Route::Tags(name("a"))),
            ("/v2/tags/tags/list", Route::Tags(name("tags"))),
            (
                "/v2/a/b/manifests/list",
                Route::Manifest(name("a/b"), tag.clone()),
            ),
            (
                "/v2/manifests/manifests/list",
                Route::Manifest(name("manifests"), tag),
            ),
            ("/v2/a/blobs/uploads/", Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads", Route::Uploads(name("a"))),
            (
                "/v2/a/blobs/uploads/x",
                Route::Upload(name("a"), "x".into()),
            ),
            (
                &format!("/v2/a/blobs/sha256:{hex}"),
                Route::Blob(name("a"), digest),
            ),
            (
                &format!("/v2/a/blobs/sha256%3A{hex}"),
                Route::Blob(name("a"), digest),
            ),
            (
                &format!("/v2/a/referrers/sha256:{hex}"),
                Route::Referrers(name("a"), digest),
            ),
        ] {
            assert_eq!(Route::parse(path).unwrap(), route, "{path}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_code() {
        for (path, status, code) in [
            ("/", 404, "UNSUPPORTED"),
            ("/v1/a", 404, "UNSUPPORTED"),
            ("/v2x", 404, "UNSUPPORTED"),
            ("/v2/a", 404, "UNSUPPORTED"),
            ("/v2/a/b/c", 404, "UNSUPPORTED"),
            ("/v2/a%2", 404, "UNSUPPORTED"),
            ("/v2/a/%00/tags/list", 404, "UNSUPPORTED"),
            ("/v2/A/tags/list", 400, "NAME_INVALID"),
            ("/v2/../tags/list", 400, "NAME_INVALID"),
            ("/v2/a/%2e%2e/b/manifests/x", 400, "NAME_INVALID"),
            ("/v2/a/manifests/.x", 400, "MANIFEST_INVALID"),
            ("/v2/a/manifests/sha256:1", 400, "DIGEST_INVALID"),
            ("/v2/a/blobs/..", 400, "DIGEST_INVALID"),
            ("/v2/a/blobs/md5:00", 400, "DIGEST_INVALID"),
        ] {
            let refusal = Route::parse(path).unwrap_err();
            assert_eq!(refusal.status.as_u16(), status, "{path}");
            let body = String::from_utf8(refusal.body()).unwrap();
            assert!(body.contains(code), "{path}: {body}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("mount=sha256%3Aab&from=a/b&tag=1&tag=2&flag&x=a+b").unwrap();
        assert_eq!(query.get("mount"), Some("sha256:ab"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(query.get("flag"), Some(""));
        assert_eq!(query.get("x"), Some("a+b"));
        assert!(Query::parse("a=%zz").is_err());
        assert_eq!(encode("a b+c"), "a%20b%2Bc");
    }
}
