//! Blobs: read whole or in parts, and taken from a repository.

use std::sync::Arc;

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE,
    RANGE,
};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{Registry, blocking, has_already, header};
use crate::digest::ContentDigest;
use crate::name::Repository;
use crate::range::{Asked, asked};
use crate::refusal::{Code, Refusal};
use crate::reply::{self, Answer, Body, CONTENT_DIGEST};

/// The refusal of a blob that the repository does not have.
pub(super) fn unknown(digest: &ContentDigest) -> Refusal {
    Refusal::new(Code::BlobUnknown, "blob unknown to registry")
        .detail(serde_json::json!({"digest": digest.to_string()}))
}

/// The headers of every answer about a blob.
fn described(response: Response<Body>, digest: &ContentDigest) -> Response<Body> {
    let response = reply::with(response, CONTENT_DIGEST, &digest.to_string());
    let response = reply::with(response, ETAG, &format!("\"{digest}\""));
    // Content of a digest never changes.
    let response = reply::with(response, CACHE_CONTROL, "max-age=31536000, immutable");
    reply::with(response, ACCEPT_RANGES, "bytes")
}

impl Registry {
    pub(super) async fn get_blob(
        &self,
        request: &Request<Incoming>,
        name: Repository,
        digest: ContentDigest,
    ) -> Answer {
        let store = Arc::clone(&self.store);
        let found = blocking(move || {
            let Some(record) = store.records.blob(&name, &digest)? else {
                return Ok(None);
            };
            Ok(store
                .blobs
                .reader(&record.content)?
                .map(|file| (file, record.size)))
        })
        .await?;
        let Some((file, size)) = found else {
            return Err(unknown(&digest));
        };
        let etag = format!("\"{digest}\"");
        if has_already(request, &etag) {
            return Ok(described(reply::empty(StatusCode::NOT_MODIFIED), &digest));
        }
        let ranged = header(request, &IF_RANGE).is_none_or(|given| given.trim() == etag);
        let range = header(request, &RANGE).filter(|_| ranged);
        let head = request.method() == Method::HEAD;
        let (status, start, length) = match asked(range, size) {
            Asked::Whole => (StatusCode::OK, 0, size),
            Asked::Part(start, length) => (StatusCode::PARTIAL_CONTENT, start, length),
            Asked::Beyond => {
                return Err(
                    Refusal::new(Code::SizeInvalid, "the blob has nothing in this range")
                        .status(StatusCode::RANGE_NOT_SATISFIABLE)
                        .header("content-range", format!("bytes */{size}")),
                );
            }
        };
        let mut response = reply::empty(status);
        if !head {
            *response.body_mut() = reply::file(file, start, length);
        }
        response = reply::with(response, CONTENT_TYPE, "application/octet-stream");
        response = reply::with(response, CONTENT_LENGTH, &length.to_string());
        if status == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {start}-{}/{size}", start + length - 1);
            response = reply::with(response, CONTENT_RANGE, &range);
        }
        Ok(described(response, &digest))
    }

    pub(super) async fn delete_blob(&self, name: Repository, digest: ContentDigest) -> Answer {
        let store = Arc::clone(&self.store);
        let gone = blocking(move || {
            let Some(record) = store.records.unlink(&name, &digest)? else {
                return Ok(false);
            };
            store.records.unless_held(&record.content, || {
                Ok(store.blobs.remove(&record.content)?)
            })?;
            Ok(true)
        })
        .await?;
        if gone {
            Ok(reply::empty(StatusCode::ACCEPTED))
        } else {
            Err(unknown(&digest))
        }
    }
}
