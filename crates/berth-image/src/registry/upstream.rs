//! A registry as a cache of it asks: manifests, what a tag stands for, content as it comes.
//!
//! Owns: the authorization of each repository, so that not every request needs a token of its own. Does not own what
//! is kept, or for how long. Nothing that comes is verified here but manifests, by their digest.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use berth_types::{Digest, ErrorKind};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;

use super::endpoint::{Endpoint, Security, parse_mirror};
use super::session::{Asked, MANIFESTS, Session, empty};
use super::{Credentials, RegistryClient};
use crate::error::{ImageError, Result};
use crate::limits;
use crate::settings::RegistrySettings;

/// How a registry is reached that others are to get through us.
#[derive(Debug, Clone, Default)]
pub struct UpstreamSettings {
    /// `https://registry.example` or `http://127.0.0.1:5000`; a path is put in front of the repository.
    pub url: String,
    /// Name and password there, if it wants any.
    pub credentials: Option<Credentials>,
    /// PEM files with further certificate authorities, beside those of the host.
    pub certificate_files: Vec<PathBuf>,
    /// Proxy for http requests.
    pub http_proxy: Option<String>,
    /// Proxy for https requests.
    pub https_proxy: Option<String>,
    /// Hosts, domains and ranges reached without a proxy, separated by commas.
    pub no_proxy: Option<String>,
}

/// A registry that is asked on behalf of others.
#[derive(Debug)]
pub struct UpstreamRegistry {
    client: RegistryClient,
    security: Security,
    authority: String,
    /// In front of each repository; ends with a slash unless empty.
    prefix: String,
    credentials: Option<Credentials>,
    authorizations: Mutex<HashMap<String, HeaderValue>>,
}

/// A manifest as it came, verified against its digest when that was said.
#[derive(Debug, Clone)]
pub struct UpstreamManifest {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What the registry says it is.
    pub media_type: Option<String>,
    /// Its sha256.
    pub digest: Digest,
}

/// Content on its way. Not verified.
#[derive(Debug)]
pub struct UpstreamBlob {
    /// The bytes.
    pub body: Incoming,
    /// Offset of the first one; zero also when the registry knows no ranges.
    pub start: u64,
    /// Size of the whole, when the registry says it.
    pub size: Option<u64>,
}

impl UpstreamRegistry {
    /// Checks the settings; nothing is connected yet.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn new(settings: &UpstreamSettings) -> Result<Self> {
        let client = RegistryClient::new(&RegistrySettings {
            certificate_files: settings.certificate_files.clone(),
            http_proxy: settings.http_proxy.clone(),
            https_proxy: settings.https_proxy.clone(),
            no_proxy: settings.no_proxy.clone(),
            download_attempts: limits::UPSTREAM_ATTEMPTS,
            ..RegistrySettings::default()
        })?;
        let (security, authority, path) = parse_mirror(&settings.url, &client.insecure)?;
        let prefix = if path.is_empty() {
            path
        } else {
            format!("{path}/")
        };
        Ok(Self {
            client,
            security,
            authority,
            prefix,
            credentials: settings.credentials.clone(),
            authorizations: Mutex::default(),
        })
    }

    /// Host and port, for messages.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    fn session(&self, repository: &str) -> Session<'_> {
        let endpoint = Endpoint {
            authority: self.authority.clone(),
            repository: format!("{}{repository}", self.prefix),
            security: self.security,
            mirror: false,
        };
        let session = Session::new(&self.client, endpoint, self.credentials.as_ref());
        let known = self.lock().get(repository).cloned();
        if let Some(value) = known {
            // Until when is not asked: a registry that no longer takes it says so.
            session.authorize(value, None);
        }
        session
    }

    fn remember(&self, repository: &str, session: &Session<'_>) {
        let Some(value) = session.authorization() else {
            return;
        };
        let mut known = self.lock();
        if known.len() >= limits::UPSTREAM_REPOSITORIES {
            known.clear();
        }
        known.insert(repository.to_owned(), value);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, HeaderValue>> {
        self.authorizations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches a manifest or index by tag or digest.
    ///
    /// # Errors
    /// When the registry has none, refuses, is away, or sends another one than was asked for.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Result<UpstreamManifest> {
        let session = self.session(repository);
        let fetched = session.manifest(reference).await?;
        self.remember(repository, &session);
        Ok(UpstreamManifest {
            bytes: fetched.bytes,
            media_type: fetched.media_type,
            digest: fetched.digest,
        })
    }

    /// Asks what a tag stands for, without fetching it. `None` when only a fetch can tell.
    pub async fn digest(&self, repository: &str, tag: &str) -> Option<Digest> {
        let session = self.session(repository);
        let asked = self.asked(format!(
            "look at tag {tag} of {repository} at {}",
            self.authority
        ));
        let uri = session
            .uri(session.scheme(), &format!("manifests/{tag}"), &asked)
            .ok()?;
        for _ in 0..2 {
            let mut request = Request::builder().method(Method::HEAD).uri(&uri);
            for accept in MANIFESTS {
                request = request.header(ACCEPT, accept);
            }
            if let Some(authorization) = session.authorization() {
                request = request.header(AUTHORIZATION, authorization);
            }
            let answer = session
                .roundtrip(request, empty(), &uri, &asked.words)
                .await
                .ok()?;
            match answer.status() {
                StatusCode::OK => {
                    self.remember(repository, &session);
                    let digest = answer.headers().get("docker-content-digest")?;
                    return Digest::parse(digest.to_str().ok()?).ok();
                }
                StatusCode::UNAUTHORIZED => {
                    let headers = answer.headers().clone();
                    session.authenticate(&headers, &asked).await.ok()?;
                }
                _ => return None,
            }
        }
        None
    }

    /// Opens content from `offset` on.
    ///
    /// # Errors
    /// When the registry has none, refuses or is away.
    pub async fn blob(&self, repository: &str, digest: &str, offset: u64) -> Result<UpstreamBlob> {
        let session = self.session(repository);
        let mut asked = self.asked(format!(
            "get content {digest} of {repository} from {}",
            self.authority
        ));
        asked.range = (offset > 0).then_some((offset, None));
        let response = session.send(&format!("blobs/{digest}"), &asked).await?;
        self.remember(repository, &session);
        let headers = response.headers();
        if response.status() != StatusCode::PARTIAL_CONTENT {
            let size = number(headers, CONTENT_LENGTH.as_str());
            return Ok(UpstreamBlob {
                size,
                start: 0,
                body: response.into_body(),
            });
        }
        let stated = headers
            .get(CONTENT_RANGE)
            .and_then(|value| range(value.to_str().ok()?));
        match stated {
            Some((start, size)) if start == offset => Ok(UpstreamBlob {
                body: response.into_body(),
                start,
                size,
            }),
            _ => Err(ImageError::Registry {
                attempt: asked.words,
                reason: format!("asked for bytes from {offset} on, got another range"),
                kind: ErrorKind::DataCorrupt,
            }),
        }
    }

    fn asked(&self, words: String) -> Asked<'static> {
        Asked {
            words,
            accept: &[],
            range: None,
        }
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// First byte and size of the whole of a `Content-Range`.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (span, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = span.split_once('-')?;
    Some((first.trim().parse().ok()?, size.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_answers_are_read() {
        assert_eq!(range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(range("bytes */10"), None);
        assert_eq!(range("5-9/10"), None);
    }

    #[test]
    fn an_upstream_is_a_url_without_secrets() {
        let upstream = |url: &str| {
            UpstreamRegistry::new(&UpstreamSettings {
                url: url.into(),
                ..UpstreamSettings::default()
            })
        };
        let good = upstream("https://registry.example/proxied/").unwrap();
        assert_eq!(good.authority(), "registry.example");
        assert_eq!(good.prefix, "proxied/");
        for bad in ["registry.example", "ftp://x", "https://me:secret@x"] {
            assert!(upstream(bad).is_err(), "{bad}");
        }
    }
}
