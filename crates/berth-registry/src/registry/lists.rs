//! Lists: repositories, tags, referrers; each in pages.

use std::sync::Arc;

use http::header::{HeaderName, LINK};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Registry, blocking};
use crate::digest::ContentDigest;
use crate::limits;
use crate::manifest::media;
use crate::name::Repository;
use crate::refusal::{Code, Refusal};
use crate::reply::{self, Answer, Body};
use crate::route::{Query, encode};

const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// How many entries are asked for.
fn count(query: &Query) -> Result<usize, Refusal> {
    let Some(text) = query.get("n") else {
        return Ok(limits::LIST_ENTRIES);
    };
    // A number too large for us is too large for the list as well.
    let number = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().unwrap_or(usize::MAX)
    } else {
        return Err(Refusal::new(
            Code::Unsupported,
            format!("n={text:?} is no number of entries"),
        )
        .status(StatusCode::BAD_REQUEST));
    };
    Ok(number.min(limits::LIST_ENTRIES))
}

/// Says where the next page is (RFC 8288).
fn linked(response: Response<Body>, target: &str) -> Response<Body> {
    reply::with(response, LINK, &format!("<{target}>; rel=\"next\""))
}

/// A page of names from one more than asked for, which tells whether there is a next one.
fn page(
    path: &str,
    count: usize,
    mut names: Vec<String>,
    document: impl FnOnce(Vec<String>) -> Value,
) -> Response<Body> {
    let more = names.len() > count;
    names.truncate(count);
    let last = names.last().cloned();
    let bytes = document(names).to_string().into_bytes();
    let response = reply::full(StatusCode::OK, "application/json", bytes);
    match last {
        Some(last) if more => linked(
            response,
            &format!("{path}?n={count}&last={}", encode(&last)),
        ),
        _ => response,
    }
}

impl Registry {
    pub(super) async fn catalog(&self, query: &Query) -> Answer {
        let count = count(query)?;
        let last = query.get("last").map(str::to_owned);
        let store = Arc::clone(&self.store);
        let names =
            blocking(move || store.records.repositories(last.as_deref(), count + 1)).await?;
        Ok(page(
            "/v2/_catalog",
            count,
            names,
            |names| json!({ "repositories": names }),
        ))
    }

    pub(super) async fn tags(&self, name: Repository, query: &Query) -> Answer {
        let count = count(query)?;
        let last = query.get("last").map(str::to_owned);
        let (store, asked) = (Arc::clone(&self.store), name.clone());
        let found = blocking(move || {
            if !store.records.has_repository(&asked)? {
                return Ok(None);
            }
            store
                .records
                .tags(&asked, last.as_deref(), count + 1)
                .map(Some)
        })
        .await?;
        let Some(tags) = found else {
            return Err(
                Refusal::new(Code::NameUnknown, "repository name not known to registry")
                    .detail(json!({"name": name.as_str()})),
            );
        };
        Ok(page(
            &format!("/v2/{name}/tags/list"),
            count,
            tags,
            |tags| json!({ "name": name.as_str(), "tags": tags }),
        ))
    }

    pub(super) async fn referrers(
        &self,
        name: Repository,
        subject: ContentDigest,
        query: &Query,
    ) -> Answer {
        let filter = query.get("artifactType").map(str::to_owned);
        let last = query.get("last").map(str::to_owned);
        let (store, asked, wanted) = (Arc::clone(&self.store), name.clone(), filter.clone());
        let (entries, next) = blocking(move || {
            let mut entries: Vec<Value> = Vec::new();
            let mut size = 0;
            let mut last = last;
            loop {
                // Few at a time: a descriptor may carry long annotations.
                let rows = store
                    .records
                    .referrers(&asked, &subject, last.as_deref(), 16)?;
                if rows.is_empty() {
                    return Ok((entries, None));
                }
                for (digest, row) in rows {
                    let fits = wanted.as_deref().is_none_or(|wanted| {
                        row.descriptor["artifactType"].as_str() == Some(wanted)
                    });
                    if fits {
                        size += row.descriptor.to_string().len() + 1;
                        if size > limits::REFERRERS_BYTES && !entries.is_empty() {
                            return Ok((entries, last));
                        }
                        entries.push(row.descriptor);
                    }
                    last = Some(digest);
                }
            }
        })
        .await?;
        let bytes = json!({
            "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries,
        })
        .to_string()
        .into_bytes();
        let mut response = reply::full(StatusCode::OK, media::OCI_INDEX, bytes);
        if filter.is_some() {
            response = reply::with(response, FILTERS, "artifactType");
        }
        if let Some(last) = next {
            let filter = filter.map_or_else(String::new, |filter| {
                format!("&artifactType={}", encode(&filter))
            });
            let target = format!(
                "/v2/{name}/referrers/{subject}?last={}{filter}",
                encode(&last)
            );
            response = linked(response, &target);
        }
        Ok(response)
    }
}
