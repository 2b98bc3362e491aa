//! Requests about networks.

use crate::convert;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::request::{Request, cut};
use berth_api::{
    NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse, NetworkDisconnectRequest,
    NetworkPruneReport,
};
use berth_engine::Engine;
use berth_engine::containers::requests::ListOptions;
use http::StatusCode;
use std::sync::Arc;

type Answer = Result<Reply, Failure>;

pub(crate) async fn list(engine: Arc<Engine>, request: Request) -> Answer {
    // The containers were left out of the list in API 1.28.
    let members = !request.version.at_least(28);
    let networks: Vec<_> = engine
        .networks
        .list(&request.filters()?)?
        .iter()
        .map(|view| convert::networks::network(view, members))
        .collect();
    Ok(Reply::json(StatusCode::OK, &networks))
}

pub(crate) async fn inspect(engine: Arc<Engine>, request: Request) -> Answer {
    // There are no services and tasks to tell more of, but the parameter has to make sense.
    let verbose = request.text("verbose");
    if !verbose.is_empty() && !is_bool(verbose) {
        let shown = cut(verbose);
        return Err(Failure::bad_request(format!(
            "invalid value for verbose: {shown}: strconv.ParseBool: parsing {shown:?}: invalid syntax"
        )));
    }
    let name = &request.name;
    if !matches!(request.text("scope"), "" | "local") {
        return Err(Failure::not_found(format!(
            "network {} not found",
            cut(name)
        )));
    }
    let view = engine.networks.inspect(name)?;
    Ok(Reply::json(
        StatusCode::OK,
        &convert::networks::network(&view, true),
    ))
}

/// Go's truth values.
fn is_bool(text: &str) -> bool {
    matches!(
        text,
        "1" | "t" | "T" | "true" | "TRUE" | "True" | "0" | "f" | "F" | "false" | "FALSE" | "False"
    )
}

pub(crate) async fn create(engine: Arc<Engine>, mut request: Request) -> Answer {
    let mut body: NetworkCreateRequest = request.json().await?.unwrap_or_default();
    if !request.version.at_least(48) {
        body.enable_ipv4 = None;
    }
    let created = engine
        .networks
        .create(convert::networks::create(body))
        .await?;
    let body = NetworkCreateResponse {
        id: created.id.to_string(),
        warning: created.warning,
    };
    Ok(Reply::json(StatusCode::CREATED, &body))
}

pub(crate) async fn remove(engine: Arc<Engine>, request: Request) -> Answer {
    engine.networks.remove(&request.name).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn prune(engine: Arc<Engine>, request: Request) -> Answer {
    let names = engine.networks.prune(&request.filters()?).await?;
    let report = NetworkPruneReport {
        networks_deleted: (!names.is_empty()).then_some(names),
    };
    Ok(Reply::json(StatusCode::OK, &report))
}

pub(crate) async fn connect(engine: Arc<Engine>, mut request: Request) -> Answer {
    let body: NetworkConnectRequest = request.json().await?.unwrap_or_default();
    let mut endpoint = body.endpoint_config.unwrap_or_default();
    if !request.version.at_least(48) {
        endpoint.gw_priority = 0;
    }
    let endpoint = convert::networks::endpoint_request(endpoint);
    engine
        .containers
        .connect(&request.name, &body.container, endpoint)
        .await?;
    Ok(Reply::empty(StatusCode::OK))
}

pub(crate) async fn disconnect(engine: Arc<Engine>, mut request: Request) -> Answer {
    let body: NetworkDisconnectRequest = request.json().await?.unwrap_or_default();
    engine
        .containers
        .disconnect(&request.name, &body.container, body.force)
        .await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// Who reaches which published port: Berth's own, beside Docker's requests.
pub(crate) async fn exposures(engine: Arc<Engine>, _: Request) -> Answer {
    let policy = engine.networks.settings().publish_policy;
    let views = engine.containers.list(&ListOptions::default())?;
    let running: Vec<_> = views
        .iter()
        .filter_map(|view| Some((view, Arc::clone(view.network.as_ref()?))))
        .collect();
    let runs = running.iter().map(|(_, run)| Arc::clone(run)).collect();
    let found = engine.networks.exposures(runs).await?;
    let exposures: Vec<_> = running
        .iter()
        .zip(found)
        .flat_map(|((view, _), found)| convert::networks::exposures(view, policy, found))
        .collect();
    Ok(Reply::json(StatusCode::OK, &exposures))
}
