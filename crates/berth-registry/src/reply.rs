//! Answers: small ones from memory, blobs from their file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;

use crate::limits::CHUNK_BYTES;
use crate::refusal::Refusal;

/// Body of an answer. An error in it cuts the connection, so that nobody takes a part for the whole.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// An answer, or why there is none.
pub(crate) type Answer = Result<Response<Body>, Refusal>;

/// The name of `Docker-Content-Digest`.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A status and no body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// Bytes at hand.
pub(crate) fn full(status: StatusCode, media_type: &str, bytes: Vec<u8>) -> Response<Body> {
    let length = bytes.len();
    let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    let response = with(response, CONTENT_TYPE, media_type);
    with(response, CONTENT_LENGTH, &length.to_string())
}

/// Adds a header. Values are ours or were verified; one that no header can carry is left out.
pub(crate) fn with(mut response: Response<Body>, name: HeaderName, value: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().append(name, value);
    }
    response
}

/// The answer to a refusal.
pub(crate) fn refused(refusal: &Refusal) -> Response<Body> {
    let mut response = full(refusal.status, "application/json", refusal.body());
    for (name, value) in &refusal.headers {
        response = with(response, HeaderName::from_static(name), value);
    }
    response
}

/// A part of a file, read as the client takes it.
pub(crate) fn file(file: File, start: u64, length: u64) -> Body {
    let file = Arc::new(file);
    let chunks = stream::try_unfold((file, start, length), |(file, start, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let size = usize::try_from(left)
            .unwrap_or(CHUNK_BYTES)
            .min(CHUNK_BYTES);
        let reading = Arc::clone(&file);
        let bytes = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; size];
            reading.read_exact_at(&mut buffer, start)?;
            Ok::<_, io::Error>(Bytes::from(buffer))
        })
        .await
        .map_err(io::Error::other)??;
        let size = size as u64;
        Ok::<_, io::Error>(Some((
            Frame::data(bytes),
            (file, start + size, left - size),
        )))
    });
    StreamBody::new(chunks).boxed_unsync()
}
