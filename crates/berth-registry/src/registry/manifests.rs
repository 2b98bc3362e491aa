//! Manifests: read by tag or digest, put, removed; and tags, removed alone.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, LOCATION};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::json;

use super::{Registry, blocking, has_already, header};
use crate::digest::{Algorithm, ContentDigest};
use crate::limits;
use crate::manifest::Manifest;
use crate::name::{Reference, Repository, Tag};
use crate::records::{ManifestRecord, PutManifest};
use crate::refusal::{Code, Refusal};
use crate::reply::{self, Answer, CONTENT_DIGEST};
use crate::route::Query;
use crate::store::Store;

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

fn unknown(reference: &Reference) -> Refusal {
    Refusal::new(Code::ManifestUnknown, "manifest unknown to registry")
        .detail(json!({"reference": reference.to_string()}))
}

fn too_large() -> Refusal {
    Refusal::new(
        Code::ManifestInvalid,
        format!("the manifest exceeds {} bytes", limits::MANIFEST_BYTES_MAX),
    )
    .status(StatusCode::PAYLOAD_TOO_LARGE)
}

/// What a reference stands for.
pub(super) fn resolve(
    store: &Store,
    name: &Repository,
    reference: &Reference,
) -> crate::Result<Option<(ContentDigest, ManifestRecord)>> {
    let digest = match reference {
        Reference::Digest(digest) => *digest,
        Reference::Tag(tag) => {
            let Some(record) = store.records.tag(name, tag)? else {
                return Ok(None);
            };
            match ContentDigest::parse(&record.digest) {
                Ok(digest) => digest,
                Err(_) => return Ok(None),
            }
        }
    };
    let record = store.records.manifest(name, &digest)?;
    Ok(record.map(|record| (digest, record)))
}

impl Registry {
    pub(super) async fn get_manifest(
        &self,
        request: &Request<Incoming>,
        name: Repository,
        reference: Reference,
    ) -> Answer {
        let head = request.method() == Method::HEAD;
        if let Some(mirror) = &self.mirror {
            mirror.manifest(&name, &reference).await?;
        }
        // Never closed.
        let _turn = self.manifests.acquire().await;
        let store = Arc::clone(&self.store);
        let asked = reference.clone();
        let found = blocking(move || {
            let Some((digest, record)) = resolve(&store, &name, &asked)? else {
                return Ok(None);
            };
            let bytes = if head {
                Vec::new()
            } else {
                let limit = limits::MANIFEST_BYTES_MAX as u64;
                match store.blobs.read(&record.content, limit)? {
                    Some(bytes) => bytes,
                    None => return Ok(None),
                }
            };
            Ok(Some((digest, record, bytes)))
        })
        .await?;
        let Some((digest, record, bytes)) = found else {
            return Err(unknown(&reference));
        };
        let etag = format!("\"{digest}\"");
        let response = if has_already(request, &etag) {
            reply::empty(StatusCode::NOT_MODIFIED)
        } else if head {
            let response = reply::empty(StatusCode::OK);
            let response = reply::with(response, CONTENT_TYPE, &record.media_type);
            reply::with(response, CONTENT_LENGTH, &record.size.to_string())
        } else {
            reply::full(StatusCode::OK, &record.media_type, bytes)
        };
        let response = reply::with(response, CONTENT_DIGEST, &digest.to_string());
        Ok(reply::with(response, ETAG, &etag))
    }

    pub(super) async fn put_manifest(
        &self,
        request: Request<Incoming>,
        name: Repository,
        reference: Reference,
        query: &Query,
    ) -> Answer {
        let invalid = |reason: String| Refusal::new(Code::ManifestInvalid, reason);
        let mut further = Vec::new();
        for text in query.all("tag") {
            further
                .push(Tag::parse(text).ok_or_else(|| invalid(format!("{text:?} is not a tag")))?);
        }
        if further.len() > limits::TAG_PARAMETERS_MAX {
            return Err(invalid(format!(
                "more than {} tags at once",
                limits::TAG_PARAMETERS_MAX
            ))
            .status(StatusCode::URI_TOO_LONG));
        }
        let content_type = header(&request, &CONTENT_TYPE).map(str::to_owned);
        let length: Option<usize> =
            header(&request, &CONTENT_LENGTH).and_then(|text| text.parse().ok());
        if length.is_some_and(|length| length > limits::MANIFEST_BYTES_MAX) {
            return Err(too_large());
        }
        // Never closed.
        let _turn = self.manifests.acquire().await;
        let body = Limited::new(request.into_body(), limits::MANIFEST_BYTES_MAX).collect();
        let bytes = match tokio::time::timeout(limits::MANIFEST_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(too_large());
            }
            Ok(Err(error)) => return Err(invalid(format!("the body broke off: {error}"))),
            Err(_) => {
                return Err(invalid("the body did not come in time".into())
                    .status(StatusCode::REQUEST_TIMEOUT));
            }
        };
        let manifest = Manifest::parse(&bytes, content_type.as_deref()).map_err(invalid)?;
        let mut tags = further.clone();
        let digest = match &reference {
            Reference::Tag(tag) => {
                tags.push(tag.clone());
                ContentDigest::of(Algorithm::Sha256, &bytes)
            }
            Reference::Digest(given) => {
                let actual = ContentDigest::of(given.algorithm(), &bytes);
                if actual != *given {
                    return Err(Refusal::new(
                        Code::DigestInvalid,
                        "provided digest did not match uploaded content",
                    )
                    .detail(json!({
                        "provided": given.to_string(), "uploaded": actual.to_string(),
                    })));
                }
                actual
            }
        };
        let subject = manifest.subject;
        let (store, target) = (Arc::clone(&self.store), name.clone());
        let put =
            blocking(move || store.put_manifest(&target, &digest, &manifest, &bytes, tags, true))
                .await?;
        if let PutManifest::Missing(missing) = put {
            return Err(Refusal::each(
                Code::ManifestBlobUnknown,
                "manifest references a manifest or blob unknown to registry",
                missing
                    .iter()
                    .map(|digest| json!({"digest": digest.to_string()})),
            ));
        }
        let response = reply::empty(StatusCode::CREATED);
        let place = format!("/v2/{name}/manifests/{digest}");
        let response = reply::with(response, LOCATION, &place);
        let response = reply::with(response, CONTENT_LENGTH, "0");
        let mut response = reply::with(response, CONTENT_DIGEST, &digest.to_string());
        if let Some(subject) = subject {
            response = reply::with(response, SUBJECT, &subject.to_string());
        }
        for tag in &further {
            response = reply::with(response, OCI_TAG, tag.as_str());
        }
        Ok(response)
    }

    pub(super) async fn delete_manifest(&self, name: Repository, reference: Reference) -> Answer {
        let store = Arc::clone(&self.store);
        let asked = reference.clone();
        let gone = blocking(move || match &asked {
            Reference::Tag(tag) => store.records.remove_tag(&name, tag),
            Reference::Digest(digest) => {
                let Some(record) = store.records.remove_manifest(&name, digest)? else {
                    return Ok(false);
                };
                store.records.unless_held(&record.content, || {
                    Ok(store.blobs.remove(&record.content)?)
                })?;
                Ok(true)
            }
        })
        .await?;
        if gone {
            Ok(reply::empty(StatusCode::ACCEPTED))
        } else {
            Err(unknown(&reference))
        }
    }
}
