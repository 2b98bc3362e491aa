//! Blobs: read whole or in parts, and taken from a repository.

use std::fs::File;
use std::sync::Arc;

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE,
    RANGE,
};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{Registry, blocking, has_already, header};
use crate::digest::ContentDigest;
use crate::mirror::{Coming, Fetch};
use crate::name::Repository;
use crate::range::{Asked, asked};
use crate::refusal::{Code, Refusal};
use crate::reply::{self, Answer, Body, CONTENT_DIGEST};

/// The refusal of a blob that the repository does not have.
pub(super) fn unknown(digest: &ContentDigest) -> Refusal {
    Refusal::new(Code::BlobUnknown, "blob unknown to registry")
        .detail(serde_json::json!({"digest": digest.to_string()}))
}

/// Where a blob is read from.
enum Source {
    Here(File),
    OnItsWay(Arc<Fetch>),
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
        let etag = format!("\"{digest}\"");
        let here = self.open_blob(&name, &digest).await?;
        let (source, size) = match (here, &self.mirror) {
            (Some((file, size)), _) => (Source::Here(file), Some(size)),
            (None, None) => return Err(unknown(&digest)),
            (None, Some(mirror)) => match mirror.blob(&name, &digest).await? {
                Some(fetch) => {
                    let Coming { size } = fetch.coming().await?;
                    (Source::OnItsWay(fetch), size)
                }
                // It may just have come.
                None => match self.open_blob(&name, &digest).await? {
                    Some((file, size)) => (Source::Here(file), Some(size)),
                    None => return Err(unknown(&digest)),
                },
            },
        };
        if has_already(request, &etag) {
            return Ok(described(reply::empty(StatusCode::NOT_MODIFIED), &digest));
        }
        let ranged = header(request, &IF_RANGE).is_none_or(|given| given.trim() == etag);
        let range = header(request, &RANGE).filter(|_| ranged);
        let head = request.method() == Method::HEAD;
        let (status, start, length) = match size.map(|size| (size, asked(range, size))) {
            None => (StatusCode::OK, 0, None),
            Some((size, Asked::Whole)) => (StatusCode::OK, 0, Some(size)),
            Some((_, Asked::Part(start, length))) => {
                (StatusCode::PARTIAL_CONTENT, start, Some(length))
            }
            Some((size, Asked::Beyond)) => {
                return Err(
                    Refusal::new(Code::SizeInvalid, "the blob has nothing in this range")
                        .status(StatusCode::RANGE_NOT_SATISFIABLE)
                        .header("content-range", format!("bytes */{size}")),
                );
            }
        };
        let mut response = reply::empty(status);
        if !head {
            *response.body_mut() = match source {
                Source::Here(file) => reply::file(file, start, length.unwrap_or(0)),
                Source::OnItsWay(fetch) => fetch.body(start, length),
            };
        }
        response = reply::with(response, CONTENT_TYPE, "application/octet-stream");
        if let (Some(size), Some(length)) = (size, length) {
            response = reply::with(response, CONTENT_LENGTH, &length.to_string());
            if status == StatusCode::PARTIAL_CONTENT {
                let range = format!("bytes {start}-{}/{size}", start + length - 1);
                response = reply::with(response, CONTENT_RANGE, &range);
            }
        }
        Ok(described(response, &digest))
    }

    /// The file of a blob that the repository has, and its size.
    async fn open_blob(
        &self,
        name: &Repository,
        digest: &ContentDigest,
    ) -> crate::Result<Option<(File, u64)>> {
        let (store, name, digest) = (Arc::clone(&self.store), name.clone(), *digest);
        blocking(move || {
            let Some(record) = store.records.blob(&name, &digest)? else {
                return Ok(None);
            };
            let file = store.blobs.reader(&record.content)?;
            Ok(file.map(|file| (file, record.size)))
        })
        .await
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
