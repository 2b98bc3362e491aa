//! Requests about networks: the two that need nothing of the host.

use crate::convert;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::request::{Request, cut};
use berth_engine::containers::requests::ListOptions;
use berth_engine::containers::spec::NetworkMode;
use berth_engine::{Engine, Filters};
use http::StatusCode;
use std::sync::Arc;

const ACCEPTED: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

pub(crate) async fn list(_: Arc<Engine>, request: Request) -> Result<Reply, Failure> {
    let filters = request.filters()?;
    filters.validate(ACCEPTED)?;
    let networks: Vec<_> = convert::networks::predefined()
        .into_iter()
        .filter(|network| matches(network, &filters))
        .collect();
    Ok(Reply::json(StatusCode::OK, &networks))
}

fn matches(network: &berth_api::NetworkInspect, filters: &Filters) -> bool {
    filters.exact("driver", &network.driver)
        && filters.any("name", |value| network.name.contains(value))
        && filters.any("id", |value| network.id.contains(value))
        && filters.exact("scope", &network.scope)
        && filters.exact("type", "builtin")
        // Neither has labels, and neither counts as dangling.
        && !filters.contains("label")
        && filters.any("dangling", |value| matches!(value, "0" | "false"))
}

pub(crate) async fn inspect(engine: Arc<Engine>, request: Request) -> Result<Reply, Failure> {
    let name = &request.name;
    let found = convert::networks::predefined().into_iter().find(|network| {
        network.name == *name
            || network.id == *name
            || (name.len() >= 12 && network.id.starts_with(name))
    });
    let Some(mut network) = found else {
        return Err(Failure::not_found(format!(
            "network {} not found",
            cut(name)
        )));
    };
    for view in engine.containers.list(&ListOptions::default())? {
        let joined = match view.spec.host.network_mode {
            NetworkMode::None => network.name == "none",
            NetworkMode::Host => network.name == "host",
            _ => false,
        };
        if joined {
            let endpoint = convert::networks::resource(&view);
            network.containers.insert(view.id.to_string(), endpoint);
        }
    }
    Ok(Reply::json(StatusCode::OK, &network))
}
