//! Uploading to a repository (OCI distribution specification, "Push").
//!
//! Owns: asking what is there, taking content over from another repository, taking an upload up again where a
//! connection broke, and putting manifests. Does not own: one connection's sending ([`super::sending`]), what is sent, in which order, and how
//! many things at a time ([`crate::push`]).
//!
//! ```text
//! HEAD blob ── there ──────────────────────────────────────────────▶ done
//!   └ POST uploads?mount=&from= ── 201 ────────────────────────────▶ done
//!       └ 202, a place ── small: PUT place?digest= ── 201 ─────────▶ done
//!             └ large: PATCH place ── 202 ── PUT place?digest= ────▶ done
//!                  └ broken: GET place ── 204, Range ── PATCH the rest
//!                                └ 404: a new place
//! ```

use std::time::Duration;

use berth_types::{Digest, ErrorKind};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, RANGE, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use super::answer::{backoff, redirect_target, refusal, retry_after};
use super::challenge::{Challenge, parse, percent_encode};
use super::reach::is_passing;
use super::sending::{OCTETS, Outgoing, Watch, not_here};
use super::session::{Asked, MANIFESTS, Session, whole};
use crate::error::{ImageError, Result};
use crate::limits;

/// How content got into a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// It was there.
    WasThere,
    /// It was taken over from this repository.
    Mounted(String),
    /// It was sent.
    Sent,
}

/// A request with a small body, which may be sent again.
struct Order<'o> {
    method: Method,
    uri: Uri,
    headers: Vec<(HeaderName, &'o str)>,
    body: Bytes,
}

/// Why sending stopped.
struct Broken {
    error: ImageError,
    /// The place is gone: nothing can be taken up there.
    lost: bool,
    /// Another attempt may succeed although the registry refused this one.
    again: bool,
    /// How long the registry asked to be left alone.
    wait: Option<Duration>,
}

impl From<ImageError> for Broken {
    fn from(error: ImageError) -> Self {
        Self {
            error,
            lost: false,
            again: false,
            wait: None,
        }
    }
}

impl Session<'_> {
    /// Whether the repository has this content.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let asked = self.asked(&format!("look for content {}", digest.short()));
        self.has(&format!("blobs/{digest}"), &[], &asked).await
    }

    /// Whether the repository has this manifest or index.
    pub(crate) async fn has_manifest(&self, digest: &Digest) -> Result<bool> {
        let asked = self.asked(&format!("look for manifest {}", digest.short()));
        self.has(&format!("manifests/{digest}"), &MANIFESTS, &asked)
            .await
    }

    async fn has(&self, path: &str, accept: &[&str], asked: &Asked<'_>) -> Result<bool> {
        let order = Order {
            method: Method::HEAD,
            uri: self.uri(self.scheme(), path, asked)?,
            headers: accept.iter().map(|accept| (ACCEPT, *accept)).collect(),
            body: Bytes::new(),
        };
        // An answer without a body says too little about a refusal; the upload that follows gets a better one.
        Ok(self.order(&order, asked).await?.status().is_success())
    }

    /// Brings content into the repository. `sources` are repositories of the same registry that may have it.
    pub(crate) async fn bring(
        &self,
        content: &Outgoing,
        sources: &[String],
        watch: &dyn Watch,
        ending: &CancellationToken,
    ) -> Result<Arrived> {
        let id = content.digest.short();
        let work = async {
            if self.has_blob(&content.digest).await? {
                return Ok(Arrived::WasThere);
            }
            let mut place = None;
            for source in sources.iter().take(limits::MOUNT_ATTEMPTS) {
                match self.begin(&content.digest, Some(source)).await {
                    Ok(None) => return Ok(Arrived::Mounted(source.clone())),
                    Ok(Some(started)) => {
                        if let Some(unused) = place.replace(started) {
                            self.abandon(&unused).await;
                        }
                    }
                    // Not allowed to read there: then it is sent.
                    Err(error)
                        if matches!(
                            error.kind(),
                            ErrorKind::Unauthorized | ErrorKind::Forbidden | ErrorKind::NotFound
                        ) => {}
                    Err(error) => return Err(error),
                }
            }
            if content.file.is_none() {
                if let Some(unused) = place {
                    self.abandon(&unused).await;
                }
                return Err(not_here(content));
            }
            self.send_whole(content, place, watch).await?;
            Ok(Arrived::Sent)
        };
        tokio::select! {
            outcome = work => outcome,
            () = ending.cancelled() => Err(ImageError::Cancelled {
                attempt: format!("push content {id}"),
            }),
        }
    }

    /// Sends content, over as many connections as it takes.
    async fn send_whole(
        &self,
        content: &Outgoing,
        mut place: Option<Uri>,
        watch: &dyn Watch,
    ) -> Result<()> {
        let mut offset = 0;
        // Where the last attempt that counts as a step forward began.
        let mut mark = 0;
        let mut attempt = 0;
        loop {
            let broken = match self.send_on(content, &mut place, &mut offset, watch).await {
                Ok(()) => return Ok(()),
                Err(broken) => broken,
            };
            let passing = broken.again
                || matches!(
                    broken.error,
                    ImageError::Transport { .. } | ImageError::Stalled { .. }
                )
                || matches!(
                    broken.error.kind(),
                    ErrorKind::Unavailable | ErrorKind::ResourceExhausted
                );
            if !passing || super::answer::is_final(&broken.error) {
                return Err(broken.error);
            }
            attempt += 1;
            // First the wait, then the question: what is on its way may still arrive.
            let wait = broken.wait.unwrap_or_else(|| backoff(attempt));
            let wait = wait.min(limits::BACKOFF_MAX);
            watch.retrying(wait);
            tokio::time::sleep(wait).await;
            if self
                .look_again(content, &mut place, &mut offset, broken.lost)
                .await?
            {
                return Ok(());
            }
            if offset >= mark + limits::UPLOAD_STEP_BYTES {
                // What arrived in between counts: a large layer over a bad line may need many attempts.
                (mark, attempt) = (offset, 0);
            }
            if attempt >= self.attempts() {
                return Err(broken.error);
            }
        }
    }

    /// Finds out how much of the content has arrived. True when all of it has.
    async fn look_again(
        &self,
        content: &Outgoing,
        place: &mut Option<Uri>,
        offset: &mut u64,
        lost: bool,
    ) -> Result<bool> {
        if let Some(at) = place.take().filter(|_| !lost)
            && let Ok(Some((next, there))) = self.status(&at).await
            && there <= content.size
        {
            *offset = there;
            *place = Some(next);
            return Ok(false);
        }
        *offset = 0;
        // The last answer may have been lost after the content was taken.
        match self.has_blob(&content.digest).await {
            Ok(there) => Ok(there),
            Err(ImageError::Transport { .. } | ImageError::Stalled { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One connection's worth of sending.
    async fn send_on(
        &self,
        content: &Outgoing,
        place: &mut Option<Uri>,
        offset: &mut u64,
        watch: &dyn Watch,
    ) -> std::result::Result<(), Broken> {
        let asked = self.asked(&format!("push content {}", content.digest.short()));
        let at = match place {
            Some(at) => at.clone(),
            None => {
                *offset = 0;
                match self.begin(&content.digest, None).await? {
                    Some(at) => place.insert(at).clone(),
                    None => return Ok(()),
                }
            }
        };
        let rest = content.size - *offset;
        let at = if *offset == 0 && rest <= limits::MONOLITHIC_BYTES_MAX {
            let uri = with_digest(&at, &content.digest, &asked)?;
            let answer = self
                .stream(Method::PUT, &uri, content, 0, watch, &asked)
                .await?;
            return accepted(answer, &asked).await.map(drop);
        } else if rest > 0 {
            let answer = self
                .stream(Method::PATCH, &at, content, *offset, watch, &asked)
                .await?;
            let headers = accepted(answer, &asked).await?;
            let next = self.place(&at, &headers, &asked)?;
            *offset = content.size;
            place.insert(next).clone()
        } else {
            at
        };
        let order = Order {
            method: Method::PUT,
            uri: with_digest(&at, &content.digest, &asked)?,
            headers: vec![(CONTENT_TYPE, OCTETS)],
            body: Bytes::new(),
        };
        let answer = self.order(&order, &asked).await?;
        accepted(answer, &asked).await.map(drop)
    }

    /// Begins an upload, or takes the content over: then there is no place to send it to.
    async fn begin(&self, digest: &Digest, from: Option<&str>) -> Result<Option<Uri>> {
        let asked = self.asked(&match from {
            Some(from) => format!("take content {} over from {from}", digest.short()),
            None => format!("push content {}", digest.short()),
        });
        let mut path = "blobs/uploads/".to_owned();
        if let Some(from) = from {
            path.push_str(&format!(
                "?mount={}&from={}",
                percent_encode(&digest.to_string()),
                percent_encode(from)
            ));
        }
        let order = Order {
            method: Method::POST,
            uri: self.uri(self.scheme(), &path, &asked)?,
            headers: Vec::new(),
            body: Bytes::new(),
        };
        let response = self.order(&order, &asked).await?;
        match response.status() {
            StatusCode::CREATED => Ok(None),
            status if status.is_success() => {
                self.place(&order.uri, response.headers(), &asked).map(Some)
            }
            _ => Err(refusal(response, &asked).await),
        }
    }

    /// How much of an upload has arrived, and where it goes on; `None` when the registry no longer knows it.
    async fn status(&self, at: &Uri) -> Result<Option<(Uri, u64)>> {
        let asked = self.asked("ask how much has arrived");
        let order = Order {
            method: Method::GET,
            uri: at.clone(),
            headers: Vec::new(),
            body: Bytes::new(),
        };
        let response = self.order(&order, &asked).await?;
        if !response.status().is_success() {
            return Ok(None);
        }
        let there = response
            .headers()
            .get(RANGE)
            .and_then(|value| arrived(value.to_str().ok()?));
        let next = self
            .place(at, response.headers(), &asked)
            .unwrap_or_else(|_| at.clone());
        Ok(there.map(|there| (next, there)))
    }

    /// Tells the registry that nothing will come.
    async fn abandon(&self, at: &Uri) {
        let asked = self.asked("give up an upload");
        let order = Order {
            method: Method::DELETE,
            uri: at.clone(),
            headers: Vec::new(),
            body: Bytes::new(),
        };
        // Registries clean up by themselves as well.
        let _ = self.order(&order, &asked).await;
    }

    /// Gives a manifest or index its place, by a tag or by its digest.
    pub(crate) async fn put_manifest(
        &self,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<()> {
        let asked = self.asked(&format!("push manifest {reference}"));
        let order = Order {
            method: Method::PUT,
            uri: self.uri(self.scheme(), &format!("manifests/{reference}"), &asked)?,
            headers: vec![(CONTENT_TYPE, media_type)],
            body: Bytes::copy_from_slice(bytes),
        };
        let response = self.order(&order, &asked).await?;
        if !response.status().is_success() {
            return Err(refusal(response, &asked).await);
        }
        let expected = crate::stream::digest_of(bytes);
        let told = response
            .headers()
            .get("docker-content-digest")
            .and_then(|value| Digest::parse(value.to_str().ok()?).ok());
        match told {
            Some(actual) if actual != expected => Err(ImageError::Digest {
                object: format!("manifest {reference}, as the registry took it,"),
                expected,
                actual,
            }),
            _ => Ok(()),
        }
    }

    fn asked(&self, what: &str) -> Asked<'static> {
        Asked {
            words: format!(
                "{what} in {} of {}",
                self.endpoint.repository, self.endpoint.authority
            ),
            accept: &[],
            range: None,
        }
    }

    /// Where an upload goes on. Proxies in front of registries that end TLS often let addresses without TLS
    /// through; those of the same host are taken for what they mean.
    fn place(&self, from: &Uri, headers: &HeaderMap, asked: &Asked<'_>) -> Result<Uri> {
        let bad = |reason: String| ImageError::Registry {
            attempt: asked.words.clone(),
            reason,
            kind: ErrorKind::DataCorrupt,
        };
        let next = redirect_target(from, headers)
            .ok_or_else(|| bad("the answer names no place for the upload".into()))?;
        if from.scheme_str() != Some("https") || next.scheme_str() == Some("https") {
            return Ok(next);
        }
        if next.host() != from.host() {
            return Err(bad(format!(
                "the upload is to go from TLS to plain HTTP ({})",
                next.host().unwrap_or_default()
            )));
        }
        let path = next
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        let authority = from.authority().map_or("", http::uri::Authority::as_str);
        format!("https://{authority}{path}")
            .parse()
            .map_err(|_| bad("the answer names no usable place for the upload".into()))
    }

    pub(super) fn is_own(&self, uri: &Uri) -> bool {
        uri.authority()
            .is_some_and(|authority| authority.as_str() == self.endpoint.authority)
    }

    /// Sends a request until there is an answer that is neither a passing failure nor a request for proof.
    async fn order(&self, order: &Order<'_>, asked: &Asked<'_>) -> Result<Response<Incoming>> {
        let mut attempt = 0;
        let mut proven = false;
        loop {
            attempt += 1;
            let mut request = Request::builder()
                .method(order.method.clone())
                .uri(&order.uri);
            for (name, value) in &order.headers {
                request = request.header(name, *value);
            }
            let own = self.is_own(&order.uri);
            if own && let Some(authorization) = self.authorization() {
                request = request.header(AUTHORIZATION, authorization);
            }
            let sent = self
                .roundtrip(request, whole(order.body.clone()), &order.uri, &asked.words)
                .await;
            let (outcome, wait) = match sent {
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && own && !proven => {
                    proven = true;
                    attempt -= 1;
                    if self.prove(response.headers(), asked).await? {
                        continue;
                    }
                    return Ok(response);
                }
                Ok(response) if is_passing(response.status()) => {
                    let wait = retry_after(response.headers());
                    (Ok(response), wait)
                }
                Ok(response) => return Ok(response),
                Err(error @ (ImageError::Transport { .. } | ImageError::Stalled { .. })) => {
                    (Err(error), None)
                }
                Err(other) => return Err(other),
            };
            let hopeless = outcome.as_ref().err().is_some_and(super::answer::is_final);
            if attempt >= self.attempts() || hopeless {
                return outcome;
            }
            let wait = wait.unwrap_or_else(|| backoff(attempt));
            tokio::time::sleep(wait.min(limits::BACKOFF_MAX)).await;
        }
    }

    /// Answers a challenge, in the words that people know when there is nothing to answer with.
    pub(super) async fn prove(&self, headers: &HeaderMap, asked: &Asked<'_>) -> Result<bool> {
        if self.authenticate(headers, asked).await? {
            return Ok(true);
        }
        let wants_password = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse)
            .any(|challenge| challenge == Challenge::Basic);
        let without = self
            .credentials
            .as_ref()
            .is_none_or(|credentials| !credentials.has_password());
        if wants_password && without {
            return Err(ImageError::Registry {
                attempt: asked.words.clone(),
                reason: "no basic auth credentials".into(),
                kind: ErrorKind::Unauthorized,
            });
        }
        Ok(false)
    }
}

/// The headers of an answer that took what was sent.
async fn accepted(
    answer: Response<Incoming>,
    asked: &Asked<'_>,
) -> std::result::Result<HeaderMap, Broken> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer.headers().clone());
    }
    let wait = retry_after(answer.headers());
    Err(Broken {
        error: refusal(answer, asked).await,
        lost: status == StatusCode::NOT_FOUND,
        // Gone, elsewhere by now than we thought, or still busy with what came before.
        again: matches!(
            status,
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::CONFLICT
        ),
        wait,
    })
}

/// The place with the digest that ends the upload there.
fn with_digest(at: &Uri, digest: &Digest, asked: &Asked<'_>) -> Result<Uri> {
    let separator = if at.query().is_some() { '&' } else { '?' };
    format!(
        "{at}{separator}digest={}",
        percent_encode(&digest.to_string())
    )
    .parse()
    .map_err(|error: http::uri::InvalidUri| ImageError::Transport {
        attempt: asked.words.clone(),
        source: error.into(),
    })
}

/// Bytes that have arrived, of a `Range` header such as `0-1023`. Nothing and one byte look alike.
fn arrived(range: &str) -> Option<u64> {
    let range = range.trim();
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    match (start, end) {
        (0, 0) => Some(0),
        (0, end) => end.checked_add(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_arrived_is_read_from_the_range() {
        for (text, expected) in [
            ("0-1023", Some(1024)),
            ("bytes=0-9", Some(10)),
            ("0-0", Some(0)),
            ("5-9", None),
            ("", None),
            ("0-18446744073709551615", None),
            ("-", None),
        ] {
            assert_eq!(arrived(text), expected, "{text}");
        }
    }

    #[test]
    fn the_digest_is_added_to_whatever_query_is_there() {
        let asked = Asked {
            words: String::new(),
            accept: &[],
            range: None,
        };
        let digest = crate::stream::digest_of(b"");
        let ends = |at: &str| {
            with_digest(&at.parse().unwrap(), &digest, &asked)
                .unwrap()
                .to_string()
        };
        assert!(ends("http://r/v2/u").starts_with("http://r/v2/u?digest=sha256%3Ae3b0"));
        assert!(ends("http://r/v2/u?_state=x").starts_with("http://r/v2/u?_state=x&digest=sha256"));
    }
}
