//! Requests that are passed on to registries: push, login, search, manifests.

use super::images::{credentials, platform, reference};
use super::progress::Lines;
use crate::convert;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::request::Request;
use berth_api::{AuthConfig, AuthResponse, ManifestListPush, ManifestListPushed, SearchResult};
use berth_engine::Engine;
use berth_engine::images::{ListPush, LogInRequest, PushRequest, RemoteRequest, SearchRequest};
use berth_types::Reference;
use http::StatusCode;
use std::sync::Arc;

type Answer = Result<Reply, Failure>;

/// Results of a search that does not say how many.
const SEARCH_DEFAULT: i64 = 25;
/// Most results that a search may ask for.
const SEARCH_MOST: i64 = 100;

pub(crate) async fn push(engine: Arc<Engine>, request: Request) -> Answer {
    let platform = platform(&request, 46)?;
    let tag = request.text("tag");
    let mut name = reference(&request.name, "")?;
    if name.digest().is_some() {
        return Err(Failure::bad_request("cannot push a digest reference"));
    }
    if !tag.is_empty() {
        name = name
            .with_tag(tag)
            .map_err(|error| Failure::bad_request(error.to_string()))?;
    }
    let push = PushRequest {
        all_tags: tag.is_empty(),
        reference: name,
        platform,
        credentials: credentials(&request),
    };
    let lines = Lines::new();
    let sink = lines.sink();
    let work = async move { engine.images.push(push, sink).await.map(|_| Vec::new()) };
    lines.reply(work).await
}

pub(crate) async fn log_in(engine: Arc<Engine>, mut request: Request) -> Answer {
    let auth: AuthConfig = request
        .json()
        .await?
        .ok_or_else(|| Failure::bad_request("the request has no credentials"))?;
    let server = auth.server_address.clone();
    let request = LogInRequest {
        server,
        credentials: convert::images::credentials(auth).unwrap_or_default(),
    };
    let logged_in = engine.images.log_in(request).await?;
    Ok(Reply::json(
        StatusCode::OK,
        &AuthResponse {
            identity_token: logged_in.identity_token,
            status: "Login Succeeded".to_owned(),
        },
    ))
}

pub(crate) async fn search(engine: Arc<Engine>, request: Request) -> Answer {
    let limit = match request.integer("limit")? {
        None | Some(0) => SEARCH_DEFAULT,
        Some(limit) if (1..=SEARCH_MOST).contains(&limit) => limit,
        Some(limit) => {
            return Err(Failure::bad_request(format!(
                "limit {limit} is outside the range of [1, {SEARCH_MOST}]"
            )));
        }
    };
    let search = SearchRequest {
        term: request.text("term").to_owned(),
        limit: usize::try_from(limit).unwrap_or_default(),
        credentials: credentials(&request),
    };
    let found = engine.images.search(search, &request.filters()?).await?;
    let found: Vec<SearchResult> = found
        .into_iter()
        .map(convert::registries::search_result)
        .collect();
    Ok(Reply::json(StatusCode::OK, &found))
}

fn remote(request: &Request) -> Result<RemoteRequest, Failure> {
    Ok(RemoteRequest {
        reference: reference(&request.name, "")?,
        credentials: credentials(request),
        insecure: request.flag("insecure"),
    })
}

pub(crate) async fn distribution(engine: Arc<Engine>, request: Request) -> Answer {
    let manifest = engine
        .images
        .remote_manifest(RemoteRequest {
            insecure: false,
            ..remote(&request)?
        })
        .await?;
    Ok(Reply::json(
        StatusCode::OK,
        &convert::registries::distribution(manifest),
    ))
}

pub(crate) async fn manifest(engine: Arc<Engine>, request: Request) -> Answer {
    let manifest = engine.images.remote_manifest(remote(&request)?).await?;
    Ok(Reply::json(
        StatusCode::OK,
        &convert::registries::remote_manifest(manifest),
    ))
}

pub(crate) async fn referrers(engine: Arc<Engine>, request: Request) -> Answer {
    let platform = platform(&request, 0)?;
    let referrers = engine.images.referrers(remote(&request)?, platform).await?;
    Ok(Reply::json(
        StatusCode::OK,
        &convert::registries::referrers(referrers),
    ))
}

pub(crate) async fn push_list(engine: Arc<Engine>, mut request: Request) -> Answer {
    let list: ManifestListPush = request
        .json()
        .await?
        .ok_or_else(|| Failure::bad_request("the request has no list of manifests"))?;
    let push = ListPush {
        reference: reference(&request.name, "")?,
        bytes: convert::registries::document(&list.document)?,
        manifests: list
            .manifests
            .iter()
            .map(convert::registries::source)
            .collect::<Result<_, _>>()?,
        media_type: list.media_type,
        credentials: credentials(&request),
        insecure: list.insecure,
    };
    let (digest, brought) = engine.images.push_list(push).await?;
    Ok(Reply::json(
        StatusCode::OK,
        &ManifestListPushed {
            digest: digest.to_string(),
            brought: brought.iter().map(Reference::to_string).collect(),
        },
    ))
}
