//! Uploads of blobs: begun, continued in chunks, ended, given up; and mounts, which need none.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, LOCATION, RANGE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{Registry, blocking, header};
use crate::body::{Broken, gather};
use crate::digest::{Algorithm, ContentDigest};
use crate::limits;
use crate::name::Repository;
use crate::range;
use crate::refusal::{Code, Refusal};
use crate::reply::{self, Answer, Body, CONTENT_DIGEST};
use crate::route::Query;
use crate::store::Finished;
use crate::uploads::{Busy, Sink, Turn, Upload, turn};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

fn unknown() -> Refusal {
    Refusal::new(Code::BlobUploadUnknown, "blob upload unknown to registry")
}

fn location(name: &Repository, upload: &Upload) -> String {
    format!("/v2/{name}/blobs/uploads/{}", upload.id())
}

/// The bytes that have come, as the specification writes them: the position of the last one.
fn progress(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

/// The answer that tells how far an upload is.
fn continued(status: StatusCode, name: &Repository, upload: &Upload) -> Response<Body> {
    let response = reply::with(reply::empty(status), LOCATION, &location(name, upload));
    let response = reply::with(response, RANGE, &progress(upload.size()));
    let response = reply::with(response, UPLOAD_UUID, upload.id());
    if status == StatusCode::NO_CONTENT {
        return response;
    }
    reply::with(response, CONTENT_LENGTH, "0")
}

/// The answer that tells where a blob is now.
fn created(name: &Repository, digest: &ContentDigest) -> Response<Body> {
    let response = reply::empty(StatusCode::CREATED);
    let response = reply::with(response, LOCATION, &format!("/v2/{name}/blobs/{digest}"));
    let response = reply::with(response, CONTENT_LENGTH, "0");
    reply::with(response, CONTENT_DIGEST, &digest.to_string())
}

async fn take_turn(upload: &Arc<Upload>) -> Result<Turn, Refusal> {
    turn(upload).await.map_err(|busy| match busy {
        Busy::Ended => unknown(),
        Busy::Taken => Refusal::new(
            Code::BlobUploadInvalid,
            "another request is writing to this upload",
        )
        .status(StatusCode::CONFLICT),
    })
}

/// Compares what the head says about a chunk with what has come.
fn check_chunk(
    request: &Request<Incoming>,
    name: &Repository,
    upload: &Upload,
    size: u64,
) -> Result<(), Refusal> {
    let length: Option<u64> = header(request, &CONTENT_LENGTH).and_then(|text| text.parse().ok());
    if length.is_some_and(|length| size.saturating_add(length) > limits::BLOB_BYTES_MAX) {
        return Err(too_large());
    }
    let Some(given) = request.headers().get(CONTENT_RANGE) else {
        return Ok(());
    };
    let bad = |reason: &str| Refusal::new(Code::BlobUploadInvalid, reason);
    let (first, last) = given
        .to_str()
        .ok()
        .and_then(range::chunk)
        .ok_or_else(|| bad("the Content-Range is not first-last"))?;
    if first != size {
        return Err(bad("chunks have to come in order")
            .status(StatusCode::RANGE_NOT_SATISFIABLE)
            .header("location", location(name, upload))
            .header("range", progress(size))
            .header("docker-upload-uuid", upload.id()));
    }
    let said = last
        .checked_sub(first)
        .and_then(|length| length.checked_add(1));
    match (said, length) {
        (None, _) => Err(bad("the Content-Range ends before it begins")),
        (Some(said), Some(length)) if said != length => Err(Refusal::new(
            Code::SizeInvalid,
            "Content-Range and Content-Length differ",
        )),
        _ => Ok(()),
    }
}

fn too_large() -> Refusal {
    Refusal::new(
        Code::SizeInvalid,
        format!("the blob exceeds {} bytes", limits::BLOB_BYTES_MAX),
    )
    .status(StatusCode::PAYLOAD_TOO_LARGE)
}

/// What a client is told whose body did not come.
fn broken(broken: Broken) -> Refusal {
    let refusal = Refusal::new(Code::BlobUploadInvalid, broken.to_string());
    match broken {
        Broken::Slow => refusal.status(StatusCode::REQUEST_TIMEOUT),
        Broken::Off(_) => refusal,
    }
}

/// Appends a body to an upload: a part is hashed and written while the next one comes.
async fn receive(turn: Turn, mut body: Incoming) -> Result<Sink, Refusal> {
    let mut sink = blocking(move || turn.open()).await?;
    let mut chunks = gather(&mut body).await.map_err(broken)?;
    while !chunks.is_empty() {
        let coming: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        if sink.size() + coming > limits::BLOB_BYTES_MAX {
            return Err(too_large());
        }
        let part = std::mem::take(&mut chunks);
        let writing = blocking(move || {
            sink.write(&part)?;
            Ok(sink)
        });
        let (written, next) = tokio::join!(writing, gather(&mut body));
        sink = written?;
        chunks = next.map_err(broken)?;
    }
    Ok(sink)
}

impl Registry {
    async fn new_upload(&self, name: &Repository) -> Result<Arc<Upload>, Refusal> {
        let (store, begun) = (Arc::clone(&self.store), name.clone());
        blocking(move || store.uploads.begin(&begun))
            .await?
            .ok_or_else(|| {
                Refusal::new(Code::TooManyRequests, "too many uploads are open")
                    .header("retry-after", "60")
            })
    }

    pub(super) async fn begin_upload(
        &self,
        request: Request<Incoming>,
        name: Repository,
        query: &Query,
    ) -> Answer {
        if let Some(algorithm) = query.get("digest-algorithm") {
            Algorithm::parse(algorithm)?;
        }
        if let Some(mount) = query.get("mount") {
            let digest = ContentDigest::parse(mount)?;
            let from = query.get("from").filter(|from| !from.is_empty());
            let other = from.and_then(Repository::parse);
            // A name that cannot be has nothing to mount; the client uploads then.
            if from.is_none() || other.is_some() {
                let (store, target) = (Arc::clone(&self.store), name.clone());
                let mounted =
                    blocking(move || store.mount(&target, &digest, other.as_ref())).await?;
                if mounted.is_some() {
                    return Ok(created(&name, &digest));
                }
            }
        } else if let Some(digest) = query.get("digest") {
            let digest = ContentDigest::parse(digest)?;
            let upload = self.new_upload(&name).await?;
            return match self.complete(request, &name, &upload, digest).await {
                Ok(response) => Ok(response),
                Err(refusal) => {
                    // Nobody knows its id.
                    let store = Arc::clone(&self.store);
                    blocking(move || store.uploads.end(&upload)).await?;
                    Err(refusal)
                }
            };
        }
        let upload = self.new_upload(&name).await?;
        Ok(continued(StatusCode::ACCEPTED, &name, &upload))
    }

    pub(super) fn upload_status(&self, name: &Repository, id: &str) -> Answer {
        let upload = self.store.uploads.find(name, id).ok_or_else(unknown)?;
        Ok(continued(StatusCode::NO_CONTENT, name, &upload))
    }

    pub(super) async fn upload_chunk(
        &self,
        request: Request<Incoming>,
        name: Repository,
        id: &str,
    ) -> Answer {
        let upload = self.store.uploads.find(&name, id).ok_or_else(unknown)?;
        let turn = take_turn(&upload).await?;
        check_chunk(&request, &name, &upload, turn.size())?;
        receive(turn, request.into_body()).await?;
        Ok(continued(StatusCode::ACCEPTED, &name, &upload))
    }

    pub(super) async fn end_upload(
        &self,
        request: Request<Incoming>,
        name: Repository,
        id: &str,
        query: &Query,
    ) -> Answer {
        let upload = self.store.uploads.find(&name, id).ok_or_else(unknown)?;
        let digest = query
            .get("digest")
            .ok_or_else(|| Refusal::new(Code::DigestInvalid, "the parameter digest is missing"))?;
        let digest = ContentDigest::parse(digest)?;
        self.complete(request, &name, &upload, digest).await
    }

    /// Receives the last chunk, if there is one, and makes the blob.
    async fn complete(
        &self,
        request: Request<Incoming>,
        name: &Repository,
        upload: &Arc<Upload>,
        digest: ContentDigest,
    ) -> Answer {
        let turn = take_turn(upload).await?;
        check_chunk(&request, name, upload, turn.size())?;
        let sink = receive(turn, request.into_body()).await?;
        let (store, target) = (Arc::clone(&self.store), name.clone());
        match blocking(move || store.finish(&target, sink, &digest)).await? {
            Finished::Stored => Ok(created(name, &digest)),
            Finished::Other(actual) => Err(Refusal::new(
                Code::DigestInvalid,
                "provided digest did not match uploaded content",
            )
            .detail(serde_json::json!({
                "provided": digest.to_string(), "uploaded": actual.to_string(),
            }))),
        }
    }

    pub(super) async fn cancel_upload(&self, name: Repository, id: &str) -> Answer {
        let upload = self.store.uploads.find(&name, id).ok_or_else(unknown)?;
        let turn = take_turn(&upload).await?;
        let store = Arc::clone(&self.store);
        blocking(move || {
            store.uploads.end(&upload)?;
            drop(turn);
            Ok(())
        })
        .await?;
        Ok(reply::empty(StatusCode::NO_CONTENT))
    }
}
