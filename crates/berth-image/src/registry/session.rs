//! Requests to one endpoint about one repository.
//!
//! Owns: the order schemes → request → redirects → authentication → retries. A session sends its credentials
//! to the registry it was made for and to the token server that this registry names over an equally secure
//! connection, and never to where a redirect leads.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use base64::Engine as _;
use berth_types::{Digest, ErrorKind};
use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, LOCATION, PROXY_AUTHORIZATION, RANGE,
    RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;

use super::RegistryClient;
use super::challenge::{Challenge, Credentials, parse, parse_token, percent_encode};
use super::endpoint::{Endpoint, Security};
use crate::documents::media;
use crate::error::{ImageError, Result};
use crate::limits;

/// A manifest or index with what the registry said about it.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: Option<String>,
    pub(crate) digest: Digest,
}

/// One endpoint, one repository, one user.
pub(crate) struct Session<'a> {
    client: &'a RegistryClient,
    endpoint: Endpoint,
    credentials: Option<Credentials>,
    authorization: Mutex<Option<(HeaderValue, Option<Instant>)>>,
}

/// What a request asks for, apart from where.
struct Asked<'a> {
    words: String,
    accept: &'a [&'a str],
    range_from: u64,
}

const MANIFESTS: [&str; 4] = [
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
            authorization: Mutex::new(authorization),
        }
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
            range_from: 0,
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
            range_from: 0,
        };
        let (_, bytes) = self
            .small(&format!("blobs/{digest}"), &asked, limit)
            .await?;
        Ok(bytes)
    }

    /// Opens a content from `offset` on. Gives the body and the offset that it really begins at.
    pub(crate) async fn blob(&self, digest: &Digest, offset: u64) -> Result<(Incoming, u64)> {
        let asked = Asked {
            words: format!(
                "get layer {} of {} from {}",
                digest.short(),
                self.endpoint.repository,
                self.endpoint.authority
            ),
            accept: &[],
            range_from: offset,
        };
        let response = self.send(&format!("blobs/{digest}"), &asked).await?;
        if offset == 0 || response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok((response.into_body(), 0));
        }
        let start = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| range_start(value.to_str().ok()?));
        match start {
            Some(start) if start <= offset => Ok((response.into_body(), start)),
            _ => Err(ImageError::Registry {
                attempt: asked.words,
                reason: format!("asked for bytes from {offset} on, got another range"),
                kind: ErrorKind::DataCorrupt,
            }),
        }
    }

    /// A request whose answer is read whole, with retries around both.
    async fn small(
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
            if attempt >= limits::ATTEMPTS_MAX {
                return Err(error);
            }
            tokio::time::sleep(backoff(attempt)).await;
        }
    }

    /// Sends until there is an answer that is neither a passing failure nor a request for credentials.
    async fn send(&self, path: &str, asked: &Asked<'_>) -> Result<Response<Incoming>> {
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
                    if !passing {
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
            if attempt >= limits::ATTEMPTS_MAX || self.endpoint.mirror || is_final(&error) {
                return Err(error);
            }
            tokio::time::sleep(
                wait.unwrap_or_else(|| backoff(attempt))
                    .min(limits::BACKOFF_MAX),
            )
            .await;
        }
    }

    /// One request with its redirects. Tells whether the answer came from where a redirect led.
    async fn send_once(&self, path: &str, asked: &Asked<'_>) -> Result<(Response<Incoming>, bool)> {
        let mut uri = self.uri(self.scheme(), path, asked)?;
        let mut foreign = false;
        for _ in 0..=limits::REDIRECTS_MAX {
            let response = match self.exchange(&uri, asked, foreign).await {
                Err(ImageError::Transport { source, attempt })
                    if !foreign
                        && self.endpoint.security == Security::Any
                        && uri.scheme_str() == Some("https") =>
                {
                    // No TLS there: insecure registries may speak plain HTTP. When that fails as well, the
                    // first failure was the better answer only if nothing listens at all.
                    uri = self.uri("http", path, asked)?;
                    match self.exchange(&uri, asked, foreign).await {
                        Ok(response) => {
                            self.client.remember_plain(&self.endpoint.authority);
                            response
                        }
                        Err(ImageError::Transport { .. }) => {
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
        if asked.range_from > 0 {
            request = request.header(RANGE, format!("bytes={}-", asked.range_from));
        }
        if !foreign && let Some(authorization) = self.authorization() {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.roundtrip(request, Bytes::new(), uri, &asked.words)
            .await
    }

    async fn roundtrip(
        &self,
        mut request: http::request::Builder,
        body: Bytes,
        uri: &Uri,
        words: &str,
    ) -> Result<Response<Incoming>> {
        request = request.header(USER_AGENT, self.client.user_agent.as_str());
        if let Some(credentials) = self.client.clients.proxy_credentials(uri) {
            request = request.header(PROXY_AUTHORIZATION, credentials);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| ImageError::Transport {
                attempt: words.to_owned(),
                source: error.into(),
            })?;
        let trusted_anyway = uri
            .authority()
            .is_some_and(|authority| self.client.insecure.contains(authority.as_str()));
        let client = if trusted_anyway {
            self.client.clients.trusting()?
        } else {
            self.client.clients.verifying()?
        };
        match tokio::time::timeout(limits::RESPONSE_TIMEOUT, client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(ImageError::Transport {
                attempt: words.to_owned(),
                source: error.into(),
            }),
            Err(_) => Err(ImageError::Stalled {
                attempt: words.to_owned(),
                seconds: limits::RESPONSE_TIMEOUT.as_secs(),
            }),
        }
    }

    fn scheme(&self) -> &'static str {
        match self.endpoint.security {
            Security::Plain => "http",
            Security::Any if self.client.speaks_plain(&self.endpoint.authority) => "http",
            Security::Any | Security::Verified => "https",
        }
    }

    fn uri(&self, scheme: &str, path: &str, asked: &Asked<'_>) -> Result<Uri> {
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

    fn authorization(&self) -> Option<HeaderValue> {
        let known = self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (value, until) = known.as_ref()?;
        until
            .is_none_or(|until| Instant::now() < until)
            .then(|| value.clone())
    }

    fn authorize(&self, value: HeaderValue, until: Option<Instant>) {
        *self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some((value, until));
    }

    /// Answers a challenge. False when there is nothing to answer with.
    async fn authenticate(&self, headers: &HeaderMap, asked: &Asked<'_>) -> Result<bool> {
        let challenges: Vec<Challenge> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse)
            .collect();
        let bearer_challenge = challenges
            .iter()
            .find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        if let Some(Challenge::Bearer {
            realm,
            service,
            scope,
        }) = bearer_challenge
        {
            let (token, lifetime) = self
                .token(realm, service.as_deref(), scope.as_deref(), asked)
                .await?;
            let value = bearer(&token).ok_or_else(|| ImageError::Registry {
                attempt: asked.words.clone(),
                reason: "the token server gave a token that no header can carry".into(),
                kind: ErrorKind::DataCorrupt,
            })?;
            self.authorize(value, Some(Instant::now() + lifetime));
            return Ok(true);
        }
        if challenges.contains(&Challenge::Basic)
            && let Some(credentials) = &self.credentials
            && credentials.has_password()
            && let Some(value) = basic(credentials)
        {
            self.authorize(value, None);
            return Ok(true);
        }
        Ok(false)
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
        asked: &Asked<'_>,
    ) -> Result<(String, Duration)> {
        let words = format!("get a token for {} from {realm}", self.endpoint.authority);
        let bad = |reason: &str| ImageError::Registry {
            attempt: words.clone(),
            reason: reason.to_owned(),
            kind: ErrorKind::Unauthorized,
        };
        let base: Uri = realm.parse().map_err(|_| bad("the realm is not a URL"))?;
        let authority = base
            .authority()
            .ok_or_else(|| bad("the realm has no host"))?
            .as_str();
        let secure = match base.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("the realm is not a http(s) URL")),
        };
        // Who asks for TLS must not be made to show a password without it.
        let insecure_registry =
            self.scheme() == "http" || self.client.insecure.contains(&self.endpoint.authority);
        if !secure && !insecure_registry {
            return Err(bad("the registry uses TLS and its token server does not"));
        }
        if authority.contains('@') {
            return Err(bad("the realm carries credentials"));
        }
        let own_scope = format!("repository:{}:pull", self.endpoint.repository);
        let scope = scope.unwrap_or(&own_scope);
        let service = service.unwrap_or_default();
        let refresh = self
            .credentials
            .as_ref()
            .map(|credentials| credentials.identity_token.as_str())
            .filter(|token| !token.is_empty());
        let (request, body, uri) = if let Some(refresh) = refresh {
            let body = format!(
                "grant_type=refresh_token&client_id=berth&service={}&scope={}&refresh_token={}",
                percent_encode(service),
                percent_encode(scope),
                percent_encode(refresh)
            );
            let request = Request::builder()
                .method(Method::POST)
                .uri(&base)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            (request, Bytes::from(body), base)
        } else {
            let separator = if base.query().is_some() { '&' } else { '?' };
            let mut text = format!("{realm}{separator}scope={}", percent_encode(scope));
            if !service.is_empty() {
                text.push_str(&format!("&service={}", percent_encode(service)));
            }
            let uri: Uri = text.parse().map_err(|_| bad("the realm is not a URL"))?;
            let mut request = Request::builder().method(Method::GET).uri(&uri);
            if let Some(credentials) = &self.credentials
                && credentials.has_password()
                && let Some(value) = basic(credentials)
            {
                request = request.header(AUTHORIZATION, value);
            }
            (request, Bytes::new(), uri)
        };
        // Not retried: the request that needed the token is.
        let response = self.roundtrip(request, body, &uri, &words).await?;
        let asked = Asked {
            words: words.clone(),
            accept: &[],
            range_from: asked.range_from,
        };
        if !response.status().is_success() {
            return Err(refusal(response, &asked).await);
        }
        let size = usize::try_from(limits::TOKEN_BYTES_MAX).unwrap_or(usize::MAX);
        let body = tokio::time::timeout(
            limits::RESPONSE_TIMEOUT,
            Limited::new(response.into_body(), size).collect(),
        )
        .await
        .map_err(|_| stalled(&asked, limits::RESPONSE_TIMEOUT))?
        .map_err(|source| ImageError::Transport {
            attempt: words.clone(),
            source,
        })?;
        parse_token(&body.to_bytes(), "the answer of the token server")
    }
}

fn stalled(asked: &Asked<'_>, after: Duration) -> ImageError {
    ImageError::Stalled {
        attempt: asked.words.clone(),
        seconds: after.as_secs(),
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let pair = format!("{}:{}", credentials.username, credentials.password);
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The wait before the next attempt after `attempt` ones, doubling.
pub(crate) fn backoff(attempt: u32) -> Duration {
    limits::BACKOFF_FIRST
        .saturating_mul(1 << attempt.saturating_sub(1).min(10))
        .min(limits::BACKOFF_MAX)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// Failures that another attempt cannot change: nobody listens, no such host, a certificate that is not
/// good. Trying them again only makes a person wait.
fn is_final(error: &ImageError) -> bool {
    let ImageError::Transport { source, .. } = error else {
        return false;
    };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && error.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        if error.is::<rustls::Error>() || error.to_string().contains("dns error") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// `bytes start-end/total`.
fn range_start(text: &str) -> Option<u64> {
    text.trim()
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .trim()
        .parse()
        .ok()
}

fn redirect_target(from: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let text = headers.get(LOCATION)?.to_str().ok()?;
    let next: Uri = text.parse().ok()?;
    if next.authority().is_some() {
        return matches!(next.scheme_str(), Some("http" | "https")).then_some(next);
    }
    let path = next.path_and_query()?.as_str();
    // A path without a leading slash is relative to the directory of the request.
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        let directory = from
            .path()
            .rsplit_once('/')
            .map_or("", |(directory, _)| directory);
        format!("{directory}/{path}")
    };
    Uri::builder()
        .scheme(from.scheme()?.clone())
        .authority(from.authority()?.clone())
        .path_and_query(path)
        .build()
        .ok()
}

/// Turns a refusing answer into an error with the registry's own words, bounded and without control characters.
async fn refusal(response: Response<Incoming>, asked: &Asked<'_>) -> ImageError {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<Item>,
        #[serde(default)]
        details: Option<String>,
        #[serde(default)]
        message: Option<String>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let status = response.status();
    let size = usize::try_from(limits::ERROR_BYTES_MAX).unwrap_or(usize::MAX);
    let body = tokio::time::timeout(
        limits::STALL_TIMEOUT,
        Limited::new(response.into_body(), size).collect(),
    )
    .await;
    let bytes = match body {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    };
    let mut code = String::new();
    let mut words = String::new();
    if let Ok(body) = serde_json::from_slice::<Body>(&bytes) {
        if let Some(first) = body.errors.first() {
            code.clone_from(&first.code);
            words = format!(
                "{}: {}",
                first.code.to_ascii_lowercase().replace('_', " "),
                first.message
            );
        } else if let Some(text) = body.details.or(body.message) {
            words = text;
        }
    }
    if words.is_empty() {
        words = format!(
            "status {} {}",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default()
        );
    }
    let kind = match (status.as_u16(), code.as_str()) {
        (401, _) => ErrorKind::Unauthorized,
        (403, _) => ErrorKind::Forbidden,
        (404, _) => ErrorKind::NotFound,
        (429, _) => ErrorKind::ResourceExhausted,
        (408 | 425 | 500..=599, _) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    ImageError::Registry {
        attempt: asked.words.clone(),
        reason: crate::archive::printable(words.as_bytes()),
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved() {
        let from: Uri = "https://r.example/v2/a/blobs/x".parse().unwrap();
        let to = |location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, location.parse().unwrap());
            redirect_target(&from, &headers).map(|uri| uri.to_string())
        };
        assert_eq!(
            to("https://cdn.example/y?z=1").as_deref(),
            Some("https://cdn.example/y?z=1")
        );
        assert_eq!(to("/y").as_deref(), Some("https://r.example/y"));
        assert_eq!(to("file:///etc/passwd"), None);
        assert_eq!(range_start("bytes 10-19/20"), Some(10));
        assert_eq!(range_start("items 10-19/20"), None);
        assert!(backoff(40) <= limits::BACKOFF_MAX);
    }
}
