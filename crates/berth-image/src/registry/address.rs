//! Fetching a file from an address: what `import` is asked for. There is no registry, and no digest to compare with.
//!
//! Owns: the request with its redirects, and the way of the bytes to whoever reads them on another thread. Silence, dripping,
//! the number of redirects and what waits to be read are bounded; how much may come is the reader's to say.

use std::io::{self, Read};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_types::ErrorKind;
use bytes::{Buf, Bytes};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tokio::sync::mpsc;

use super::RegistryClient;
use super::answer::redirect_target;
use super::drip::Drip;
use super::session::{Asked, empty};
use crate::error::{ImageError, Result, carry};
use crate::limits;
use crate::progress::{Pace, Progress, ProgressSink};

/// A file that is on its way.
pub(crate) struct Remote {
    /// Its address, without what is secret.
    pub(crate) address: String,
    body: Incoming,
    /// Its bytes, where the server tells that.
    length: Option<u64>,
}

/// A file's bytes for code that reads and waits.
pub(crate) struct RemoteReader {
    /// `None` stands at the end: what ends without it was cut off.
    pieces: mpsc::Receiver<Option<Result<Bytes>>>,
    current: Bytes,
    ended: bool,
    address: String,
}

impl RegistryClient {
    /// Opens the file at an `http` or `https` address. User and password in it go to its own host alone.
    ///
    /// # Errors
    /// When it is no such address, the server cannot be reached or has no such file.
    pub(crate) async fn open(&self, address: &str) -> Result<Remote> {
        let (mut uri, mut credentials) = parse(address)?;
        let shown = uri.to_string();
        let asked = Asked {
            words: format!("get {shown}"),
            accept: &[],
            range: None,
        };
        let bad = |reason: String| ImageError::Registry {
            attempt: asked.words.clone(),
            reason,
            kind: ErrorKind::DataCorrupt,
        };
        for _ in 0..=limits::REDIRECTS_MAX {
            let response = self.get(&uri, credentials.as_ref(), &asked).await?;
            let status = response.status();
            if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                let next = redirect_target(&uri, response.headers())
                    .ok_or_else(|| bad("a redirect leads nowhere".into()))?;
                let (next, _) = parse(&next.to_string())?;
                if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                    return Err(bad(format!(
                        "a redirect leads from TLS to plain HTTP ({})",
                        next.authority().map_or("", |authority| authority.as_str())
                    )));
                }
                if next.authority() != uri.authority() || next.scheme() != uri.scheme() {
                    credentials = None;
                }
                uri = next;
                continue;
            }
            if !status.is_success() {
                return Err(ImageError::Registry {
                    attempt: asked.words.clone(),
                    reason: format!("the server answers {status}"),
                    kind: kind_of(status),
                });
            }
            let length = response
                .headers()
                .get(CONTENT_LENGTH)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            return Ok(Remote {
                address: shown,
                body: response.into_body(),
                length,
            });
        }
        Err(bad(format!(
            "more than {} redirects",
            limits::REDIRECTS_MAX
        )))
    }

    async fn get(
        &self,
        uri: &Uri,
        credentials: Option<&HeaderValue>,
        asked: &Asked<'_>,
    ) -> Result<Response<Incoming>> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| ImageError::Transport {
            attempt: asked.words.clone(),
            source,
        };
        let mut request = Request::get(uri).header(USER_AGENT, self.user_agent.as_str());
        if let Some(credentials) = credentials {
            request = request.header(AUTHORIZATION, credentials);
        }
        let request = request
            .body(empty())
            .map_err(|error| failed(error.into()))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let trusted_anyway = self.insecure.contains(authority);
        let limit = limits::RESPONSE_TIMEOUT;
        let answer = self.clients.send(request, trusted_anyway, &asked.words);
        tokio::time::timeout(limit, answer)
            .await
            .map_err(|_| ImageError::Stalled {
                attempt: asked.words.clone(),
                seconds: limit.as_secs(),
            })?
    }
}

impl Remote {
    /// Brings the file to a reader. The future has to run while the reader reads; it ends when the file has come, or
    /// nobody reads any more.
    pub(crate) fn deliver(
        self,
        stall: std::time::Duration,
        progress: ProgressSink,
    ) -> (RemoteReader, impl Future<Output = ()> + Send) {
        let (sender, pieces) = mpsc::channel(limits::DOWNLOAD_QUEUE);
        let reader = RemoteReader {
            pieces,
            current: Bytes::new(),
            ended: false,
            address: self.address.clone(),
        };
        (reader, self.run(sender, stall, progress))
    }

    async fn run(
        mut self,
        sender: mpsc::Sender<Option<Result<Bytes>>>,
        stall: std::time::Duration,
        progress: ProgressSink,
    ) {
        let attempt = format!("get {}", self.address);
        let (mut pace, mut current) = (Pace::new(), 0_u64);
        let mut drip = Drip::new(stall);
        loop {
            let waiting = Instant::now();
            let piece = match tokio::time::timeout(stall, self.body.frame()).await {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => match drip.came(bytes.len(), waiting.elapsed()) {
                        Ok(()) => Ok(bytes),
                        Err(source) => Err(ImageError::Transport {
                            attempt: attempt.clone(),
                            source: source.into(),
                        }),
                    },
                    Err(_) => continue,
                },
                Ok(None) => break,
                Ok(Some(Err(error))) => Err(ImageError::Transport {
                    attempt: attempt.clone(),
                    source: error.into(),
                }),
                Err(_) => Err(ImageError::Stalled {
                    attempt: attempt.clone(),
                    seconds: stall.as_secs(),
                }),
            };
            let is_last = piece.is_err();
            if let Ok(bytes) = &piece {
                current += bytes.len() as u64;
                if pace.due(self.length == Some(current)) {
                    progress(Progress::Importing {
                        current,
                        total: self.length.unwrap_or_default(),
                    });
                }
            }
            if sender.send(Some(piece)).await.is_err() || is_last {
                return;
            }
        }
        // Whoever reads may have gone, and knows why.
        let _ = sender.send(None).await;
    }
}

impl Read for RemoteReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Some(Ok(bytes))) => self.current = bytes,
                Some(Some(Err(error))) => return Err(carry(error)),
                Some(None) => self.ended = true,
                None => {
                    return Err(carry(ImageError::Cancelled {
                        attempt: format!("get {}", self.address),
                    }));
                }
            }
        }
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

fn kind_of(status: StatusCode) -> ErrorKind {
    match status.as_u16() {
        401 => ErrorKind::Unauthorized,
        403 => ErrorKind::Forbidden,
        404 | 410 => ErrorKind::NotFound,
        400..=499 => ErrorKind::InvalidArgument,
        _ => ErrorKind::Unavailable,
    }
}

/// An address without the user and password that may stand in it, and these as a header.
fn parse(address: &str) -> Result<(Uri, Option<HeaderValue>)> {
    let bad = |reason: &str| ImageError::Address {
        address: without_secrets(address),
        reason: reason.to_owned(),
    };
    let uri: Uri = address
        .parse()
        .map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(bad("only http:// and https:// are fetched"));
    }
    let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
    let Some((secrets, host)) = authority.as_str().rsplit_once('@') else {
        return Ok((uri, None));
    };
    // What is no escape stays as it is.
    let decoded: Vec<u8> = percent_decode_str(secrets).collect();
    let mut header = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(decoded)))
        .map_err(|_| bad("its user and password cannot be sent"))?;
    header.set_sensitive(true);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let plain = Uri::builder()
        .scheme(uri.scheme_str().unwrap_or_default())
        .authority(host)
        .path_and_query(path)
        .build()
        .map_err(|error| bad(&error.to_string()))?;
    Ok((plain, Some(header)))
}

fn without_secrets(address: &str) -> String {
    let shown: String = address.chars().take(256).collect();
    match shown.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_into_a_header_and_nowhere_else() {
        let (uri, header) = parse("http://me:p%40ss@example.com:81/a.tar?x=1").unwrap();
        assert_eq!(uri.to_string(), "http://example.com:81/a.tar?x=1");
        let expected = format!("Basic {}", STANDARD.encode("me:p@ss"));
        assert_eq!(header.unwrap(), expected.as_str());
        let (uri, header) = parse("https://example.com").unwrap();
        assert_eq!(uri.host(), Some("example.com"));
        assert!(header.is_none());
        for wrong in [
            "ftp://me:secret@example.com/x",
            "example.com/x",
            "http://",
            "file:///etc/passwd",
            "",
        ] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
