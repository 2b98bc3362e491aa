//! The first request to a registry: `GET /v2/`, which tells whether it speaks TLS and which proof it wants, and
//! lets nothing be sent twice for finding that out later.

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::answer::{backoff, is_final, refusal, retry_after};
use super::endpoint::Security;
use super::session::{Asked, Session, empty, stalled};
use crate::error::{ImageError, Result};
use crate::limits;

/// What a registry said to the first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// It let us in, with the proof that it asked for if it asked for one.
    In,
    /// It wants a proof that we do not have, or does not take the one we gave.
    NotIn(StatusCode),
}

impl Session<'_> {
    /// Address of the registry's root.
    pub(crate) fn root(&self) -> String {
        format!("{}://{}/v2/", self.scheme(), self.endpoint.authority)
    }

    /// Asks the registry how it wants to be talked to, and proves who asks.
    pub(crate) async fn reach(&self) -> Result<Reached> {
        let asked = Asked {
            words: format!("reach the registry {}", self.endpoint.authority),
            accept: &[],
            range: None,
        };
        let mut attempt = 0;
        let mut proven = false;
        loop {
            attempt += 1;
            let (error, wait) = match self.reach_once(&asked).await {
                Ok(response) => {
                    let status = response.status();
                    if status.is_success() {
                        return Ok(Reached::In);
                    }
                    if status == StatusCode::UNAUTHORIZED {
                        let headers = response.headers().clone();
                        if !proven && self.authenticate(&headers, &asked).await? {
                            proven = true;
                            attempt -= 1;
                            continue;
                        }
                        return Ok(Reached::NotIn(status));
                    }
                    let wait = retry_after(response.headers());
                    let error = refusal(response, &asked).await;
                    if !is_passing(status) {
                        return Err(error);
                    }
                    (error, wait)
                }
                Err(error @ (ImageError::Transport { .. } | ImageError::Stalled { .. })) => {
                    (error, None)
                }
                Err(other) => return Err(other),
            };
            if attempt >= self.attempts() || is_final(&error) {
                return Err(error);
            }
            let wait = wait.unwrap_or_else(|| backoff(attempt));
            tokio::time::sleep(wait.min(limits::BACKOFF_MAX)).await;
        }
    }

    async fn reach_once(&self, asked: &Asked<'_>) -> Result<Response<Incoming>> {
        let first = self.get(&self.root(), asked).await;
        let Err(ImageError::Transport { source, attempt }) = first else {
            return first;
        };
        let plain = self.scheme() == "https" && self.endpoint.security == Security::Any;
        if plain {
            // No TLS there: insecure registries may speak plain HTTP.
            let root = format!("http://{}/v2/", self.endpoint.authority);
            if let Ok(response) = self.get(&root, asked).await {
                self.client.remember_plain(&self.endpoint.authority);
                return Ok(response);
            }
        }
        Err(ImageError::Transport { source, attempt })
    }

    /// Fetches something small from outside of any repository; `path` begins with a slash.
    pub(crate) async fn look(
        &self,
        path: &str,
        what: &str,
        limit: u64,
    ) -> Result<(HeaderMap, Vec<u8>)> {
        let asked = Asked {
            words: what.to_owned(),
            accept: &[],
            range: None,
        };
        let address = format!("{}://{}{path}", self.scheme(), self.endpoint.authority);
        let mut response = self.get(&address, &asked).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let headers = response.headers().clone();
            if self.authenticate(&headers, &asked).await? {
                response = self.get(&address, &asked).await?;
            }
        }
        if !response.status().is_success() {
            return Err(refusal(response, &asked).await);
        }
        let (head, body) = response.into_parts();
        let size = usize::try_from(limit).unwrap_or(usize::MAX);
        let body =
            tokio::time::timeout(limits::RESPONSE_TIMEOUT, Limited::new(body, size).collect())
                .await
                .map_err(|_| stalled(&asked, limits::RESPONSE_TIMEOUT))?
                .map_err(|source| ImageError::Transport {
                    attempt: asked.words.clone(),
                    source,
                })?;
        Ok((head.headers, body.to_bytes().to_vec()))
    }

    /// One request without a body, to an address of this registry.
    async fn get(&self, address: &str, asked: &Asked<'_>) -> Result<Response<Incoming>> {
        let uri: Uri =
            address
                .parse()
                .map_err(|error: http::uri::InvalidUri| ImageError::Transport {
                    attempt: asked.words.clone(),
                    source: error.into(),
                })?;
        let mut request = Request::builder().method(Method::GET).uri(&uri);
        if let Some(authorization) = self.authorization() {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.roundtrip(request, empty(), &uri, &asked.words).await
    }
}

/// Whether the same request may succeed a moment later.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}
