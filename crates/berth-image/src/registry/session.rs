//! Requests to one endpoint about one repository.
//!
//! Owns: the order schemes → request → redirects → authentication → retries. A session sends its credentials
//! to the registry it was made for and to the token server that this registry names over an equally secure
//! connection, and never to where a redirect leads.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use berth_types::{Digest, ErrorKind};
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_RANGES, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, RANGE, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;

use super::RegistryClient;
use super::answer::{
    backoff, content_range, is_final, is_other_protocol, redirect_target, refusal, retry_after,
};
use super::authentication::bearer;
use super::challenge::Credentials;
use super::connect::Outgoing;
use super::endpoint::{Endpoint, Security};
use super::purpose::Purpose;
use crate::documents::{Descriptor, media};
use crate::error::{ImageError, Result};
use crate::limits;

/// A manifest or index with what the registry said about it.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: Option<String>,
    pub(crate) digest: Digest,
}

/// A content that is on its way.
pub(crate) struct Opened {
    pub(crate) body: Incoming,
    /// Offset of its first byte: zero also when a server ignored that less was asked for.
    pub(crate) start: u64,
    /// Offset behind its last byte.
    pub(crate) end: u64,
    /// The server gives parts.
    pub(crate) ranges: bool,
}

/// One endpoint, one repository, one user.
pub(crate) struct Session<'a> {
    pub(super) client: &'a RegistryClient,
    pub(super) endpoint: Endpoint,
    pub(super) credentials: Option<Credentials>,
    pub(super) purpose: Purpose,
    authorization: Mutex<Option<(HeaderValue, Option<Instant>)>>,
    /// What the token server gave to stand for user and password.
    identity: Mutex<Option<String>>,
}

/// What a request asks for, apart from where.
pub(super) struct Asked<'a> {
    pub(super) words: String,
    pub(super) accept: &'a [&'a str],
    /// First byte, and the one after the last unless all that follow are meant.
    pub(super) range: Option<(u64, Option<u64>)>,
}

pub(super) const MANIFESTS: [&str; 4] = [
    media::OCI_INDEX,
    media::DOCKER_INDEX,
    media::OCI_MANIFEST,
    media::DOCKER_MANIFEST,
];

impl<'a> Session<'a> {
    pub(crate) fn new(
        client: &'a RegistryClient,
        endpoint: Endpoint,
        credentials: Option<&Credentials>,
    ) -> Self {
        Self::with_purpose(client, endpoint, credentials, Purpose::Pull)
    }

    /// A session for something else than fetching.
    pub(crate) fn with_purpose(
        client: &'a RegistryClient,
        endpoint: Endpoint,
        credentials: Option<&Credentials>,
        purpose: Purpose,
    ) -> Self {
        let credentials = credentials.filter(|_| !endpoint.mirror).cloned();
        let authorization = credentials
            .as_ref()
            .filter(|credentials| !credentials.registry_token.is_empty())
            .and_then(|credentials| bearer(&credentials.registry_token))
            .map(|value| (value, None));
        Self {
            client,
            endpoint,
            credentials,
            purpose,
            authorization: Mutex::new(authorization),
            identity: Mutex::default(),
        }
    }

    /// How often a request or download is tried.
    pub(crate) fn attempts(&self) -> u32 {
        self.client.settings.download_attempts.max(1)
    }

    /// The longest silence within a download.
    pub(crate) fn stall_timeout(&self) -> Duration {
        self.client.settings.stall_timeout
    }

    /// Host and port, for messages.
    pub(crate) fn authority(&self) -> &str {
        &self.endpoint.authority
    }

    /// Whether this is a mirror, whose failures are passed over.
    pub(crate) fn is_mirror(&self) -> bool {
        self.endpoint.mirror
    }

    /// Fetches a manifest or index by tag or digest; by digest it is verified.
    pub(crate) async fn manifest(&self, reference: &str) -> Result<Fetched> {
        let words = format!(
            "get manifest {reference} of {} from {}",
            self.endpoint.repository, self.endpoint.authority
        );
        let asked = Asked {
            words: words.clone(),
            accept: &MANIFESTS,
            range: None,
        };
        let path = format!("manifests/{reference}");
        let (head, bytes) = self
            .small(&path, &asked, limits::MANIFEST_BYTES_MAX)
            .await?;
        let digest = crate::stream::digest_of(&bytes);
        let expected = Digest::parse(reference).ok().or_else(|| {
            head.get("docker-content-digest")
                .and_then(|value| Digest::parse(value.to_str().ok()?).ok())
        });
        if let Some(expected) = expected
            && expected != digest
        {
            return Err(ImageError::Digest {
                object: format!("manifest {reference} of {}", self.endpoint.repository),
                expected,
                actual: digest,
            });
        }
        let media_type = head
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(|text| text.split(';').next().unwrap_or(text).trim().to_owned());
        Ok(Fetched {
            bytes,
            media_type,
            digest,
        })
    }

    /// Fetches a small content whole. The caller verifies it.
    pub(crate) async fn small_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let asked = Asked {
            words: format!(
                "get content {} of {} from {}",
                digest.short(),
                self.endpoint.repository,
                self.endpoint.authority
            ),
            accept: &[],
            range: None,
        };
        let (_, bytes) = self
            .small(&format!("blobs/{digest}"), &asked, limit)
            .await?;
        Ok(bytes)
    }

    /// Opens a content, or the part of it from the first byte of `range` up to, not including, the second. `from` is
    /// another place that its descriptor names, which is asked instead of the registry and gets no credentials.
    pub(crate) async fn blob(
        &self,
        descriptor: &Descriptor,
        range: Option<(u64, Option<u64>)>,
        from: Option<&str>,
    ) -> Result<Opened> {
        let id = descriptor.digest.short();
        let asked = Asked {
            words: match from {
                None => format!(
                    "get layer {id} of {} from {}",
                    self.endpoint.repository, self.endpoint.authority
                ),
                Some(url) => format!("get layer {id} from {url}"),
            },
            accept: &[],
            range,
        };
        let response = match from {
            None => {
                self.send(&format!("blobs/{}", descriptor.digest), &asked)
                    .await?
            }
            Some(url) => self.send(url, &asked).await?,
        };
        let headers = response.headers();
        let lied = |reason: String| ImageError::Registry {
            attempt: asked.words.clone(),
            reason,
            kind: ErrorKind::DataCorrupt,
        };
        if response.status() != StatusCode::PARTIAL_CONTENT {
            let ranges = headers
                .get(ACCEPT_RANGES)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"bytes"));
            return Ok(Opened {
                body: response.into_body(),
                start: 0,
                end: descriptor.size,
                ranges,
            });
        }
        let stated = headers
            .get(CONTENT_RANGE)
            .and_then(|value| content_range(value.to_str().ok()?));
        let Some((start, end)) = range else {
            return Err(lied("asked for all, got a part".into()));
        };
        match stated {
            Some((first, after, total))
                if first == start
                    && after <= end.unwrap_or(descriptor.size)
                    && total.is_none_or(|total| total == descriptor.size) =>
            {
                Ok(Opened {
                    body: response.into_body(),
                    start,
                    end: after,
                    ranges: true,
                })
            }
            _ => {
                let last = end.map_or(String::new(), |end| end.saturating_sub(1).to_string());
                Err(lied(format!(
                    "asked for bytes {start}-{last}, got another range"
                )))
            }
        }
    }

    /// A request whose answer is read whole, with retries around both.
    pub(super) async fn small(
        &self,
        path: &str,
        asked: &Asked<'_>,
        limit: u64,
    ) -> Result<(HeaderMap, Vec<u8>)> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let response = self.send(path, asked).await?;
            let (head, body) = response.into_parts();
            let size = usize::try_from(limit).unwrap_or(usize::MAX);
            let collected =
                tokio::time::timeout(limits::RESPONSE_TIMEOUT, Limited::new(body, size).collect())
                    .await;
            let error = match collected {
                Ok(Ok(body)) => return Ok((head.headers, body.to_bytes().to_vec())),
                Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                    return Err(ImageError::Limit {
                        object: format!("the answer to: {}", asked.words),
                        limit,
                        unit: "bytes",
                    });
                }
                Ok(Err(source)) => ImageError::Transport {
                    attempt: asked.words.clone(),
                    source,
                },
                Err(_) => stalled(asked, limits::RESPONSE_TIMEOUT),
            };
            if attempt >= self.attempts() {
                return Err(error);
            }
            tokio::time::sleep(backoff(attempt)).await;
        }
    }

    /// Sends until there is an answer that is neither a passing failure nor a request for credentials.
    pub(super) async fn send(&self, path: &str, asked: &Asked<'_>) -> Result<Response<Incoming>> {
        let mut attempt = 0;
        let mut authenticated = false;
        loop {
            attempt += 1;
            let outcome = self.send_once(path, asked).await;
            let (error, wait) = match outcome {
                Ok((response, foreign)) => {
                    let status = response.status();
                    if status.is_success() {
                        return Ok(response);
                    }
                    if status == StatusCode::UNAUTHORIZED && !authenticated && !foreign {
                        authenticated = true;
                        let headers = response.headers().clone();
                        if self.authenticate(&headers, asked).await? {
                            attempt -= 1;
                            continue;
                        }
                    }
                    let wait = retry_after(response.headers());
                    let passing =
                        matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504);
                    let error = refusal(response, asked).await;
                    // Who is told to wait longer than a command may take is better told so than kept waiting.
                    if !passing || wait.is_some_and(|wait| wait > limits::RETRY_AFTER_MAX) {
                        return Err(error);
                    }
                    (error, wait)
                }
                Err(error) => match error {
                    ImageError::Transport { .. } | ImageError::Stalled { .. } => (error, None),
                    other => return Err(other),
                },
            };
            // A mirror that is down must not delay what the registry has.
            if attempt >= self.attempts() || self.endpoint.mirror || is_final(&error) {
                return Err(error);
            }
            tokio::time::sleep(wait.unwrap_or_else(|| backoff(attempt))).await;
        }
    }

    /// One request with its redirects. Tells whether the answer came from where a redirect led.
    async fn send_once(&self, path: &str, asked: &Asked<'_>) -> Result<(Response<Incoming>, bool)> {
        // A place that a descriptor names is treated like one that a redirect leads to.
        let mut foreign = path.contains("://");
        let mut uri = if foreign {
            foreign_uri(path, asked)?
        } else {
            self.uri(self.scheme(), path, asked)?
        };
        for _ in 0..=limits::REDIRECTS_MAX {
            let response = match self.exchange(&uri, asked, foreign).await {
                Err(ImageError::Transport { source, attempt })
                    if !foreign
                        && self.endpoint.security == Security::Any
                        && uri.scheme_str() == Some("https") =>
                {
                    // No TLS there: insecure registries may speak plain HTTP. When that fails as well, the first
                    // failure is the better answer, unless it only says that TLS is not spoken.
                    uri = self.uri("http", path, asked)?;
                    match self.exchange(&uri, asked, foreign).await {
                        Ok(response) => {
                            self.client.remember_plain(&self.endpoint.authority);
                            response
                        }
                        Err(ImageError::Transport { .. }) if !is_other_protocol(&*source) => {
                            return Err(ImageError::Transport { source, attempt });
                        }
                        Err(other) => return Err(other),
                    }
                }
                other => other?,
            };
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((response, foreign));
            }
            let next =
                redirect_target(&uri, response.headers()).ok_or_else(|| ImageError::Registry {
                    attempt: asked.words.clone(),
                    reason: "a redirect leads nowhere".into(),
                    kind: ErrorKind::DataCorrupt,
                })?;
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(ImageError::Registry {
                    attempt: asked.words.clone(),
                    reason: format!(
                        "a redirect leads from TLS to plain HTTP ({})",
                        next.authority().map_or("", |authority| authority.as_str())
                    ),
                    kind: ErrorKind::DataCorrupt,
                });
            }
            foreign |= next.authority() != uri.authority() || next.scheme() != uri.scheme();
            uri = next;
        }
        Err(ImageError::Registry {
            attempt: asked.words.clone(),
            reason: format!("more than {} redirects", limits::REDIRECTS_MAX),
            kind: ErrorKind::DataCorrupt,
        })
    }

    async fn exchange(
        &self,
        uri: &Uri,
        asked: &Asked<'_>,
        foreign: bool,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder().method(Method::GET).uri(uri);
        for accept in asked.accept {
            request = request.header(ACCEPT, *accept);
        }
        if let Some((start, end)) = asked.range {
            let last = end.map_or(String::new(), |end| end.saturating_sub(1).to_string());
            request = request.header(RANGE, format!("bytes={start}-{last}"));
        }
        if !foreign && let Some(authorization) = self.authorization() {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.roundtrip(request, empty(), uri, &asked.words).await
    }

    /// One request and the head of its answer, within the time that a small body needs.
    pub(super) async fn roundtrip(
        &self,
        request: http::request::Builder,
        body: Outgoing,
        uri: &Uri,
        words: &str,
    ) -> Result<Response<Incoming>> {
        let limit = limits::RESPONSE_TIMEOUT;
        tokio::time::timeout(limit, self.dispatch(request, body, uri, words))
            .await
            .unwrap_or_else(|_| {
                Err(ImageError::Stalled {
                    attempt: words.to_owned(),
                    seconds: limit.as_secs(),
                })
            })
    }

    /// One request; how long it may take is the caller's to say.
    pub(super) async fn dispatch(
        &self,
        mut request: http::request::Builder,
        body: Outgoing,
        uri: &Uri,
        words: &str,
    ) -> Result<Response<Incoming>> {
        request = request.header(USER_AGENT, self.client.user_agent.as_str());
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| ImageError::Transport {
            attempt: words.to_owned(),
            source,
        };
        let request = request.body(body).map_err(|error| failed(error.into()))?;
        let trusted_anyway = uri.authority().is_some_and(|authority| {
            (self.endpoint.security == Security::Any && authority.as_str() == self.authority())
                || self.client.insecure.contains(authority.as_str())
        });
        let clients = &self.client.clients;
        clients.send(request, trusted_anyway, words).await
    }

    pub(super) fn scheme(&self) -> &'static str {
        match self.endpoint.security {
            Security::Plain => "http",
            Security::Any if self.client.speaks_plain(&self.endpoint.authority) => "http",
            Security::Any | Security::Verified => "https",
        }
    }

    pub(super) fn uri(&self, scheme: &str, path: &str, asked: &Asked<'_>) -> Result<Uri> {
        format!(
            "{scheme}://{}/v2/{}/{path}",
            self.endpoint.authority, self.endpoint.repository
        )
        .parse()
        .map_err(|error: http::uri::InvalidUri| ImageError::Transport {
            attempt: asked.words.clone(),
            source: error.into(),
        })
    }

    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let known = self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (value, until) = known.as_ref()?;
        until
            .is_none_or(|until| Instant::now() < until)
            .then(|| value.clone())
    }

    pub(super) fn keep_identity(&self, token: String) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }

    /// The token that stands for user and password from now on, if the token server gave one.
    pub(crate) fn identity(&self) -> Option<String> {
        self.identity
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn authorize(&self, value: HeaderValue, until: Option<Instant>) {
        *self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some((value, until));
    }
}

fn foreign_uri(text: &str, asked: &Asked<'_>) -> Result<Uri> {
    text.parse::<Uri>()
        .ok()
        .filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")))
        .ok_or_else(|| ImageError::Registry {
            attempt: asked.words.clone(),
            reason: "it is no http(s) URL".into(),
            kind: ErrorKind::InvalidArgument,
        })
}

/// No body.
pub(super) fn empty() -> Outgoing {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of bytes at hand.
pub(super) fn whole(bytes: Bytes) -> Outgoing {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

pub(super) fn stalled(asked: &Asked<'_>, after: Duration) -> ImageError {
    ImageError::Stalled {
        attempt: asked.words.clone(),
        seconds: after.as_secs(),
    }
}
