//! Networks: the two that are always there, and a container's place in them.

use berth_api::{EndpointResource, EndpointSettings, Ipam, NetworkInspect, NetworkSettings};
use berth_engine::containers::view::ContainerView;
use berth_types::Timestamp;
use std::collections::BTreeMap;

/// Ids of the predefined networks: the same in every installation, as there is nothing to tell apart.
const NONE_ID: &str = "6e6f6e6500000000000000000000000000000000000000000000000000000000";
const HOST_ID: &str = "686f737400000000000000000000000000000000000000000000000000000000";

/// `none` and `host`.
pub(crate) fn predefined() -> Vec<NetworkInspect> {
    [("none", "null", NONE_ID), ("host", "host", HOST_ID)]
        .into_iter()
        .map(|(name, driver, id)| NetworkInspect {
            name: name.to_owned(),
            id: id.to_owned(),
            created: Timestamp::ZERO.to_string(),
            scope: "local".to_owned(),
            driver: driver.to_owned(),
            enable_ipv4: true,
            ipam: Ipam {
                driver: "default".to_owned(),
                options: None,
                config: None,
            },
            ..NetworkInspect::default()
        })
        .collect()
}

/// A container's endpoint as a network lists it.
pub(crate) fn resource(view: &ContainerView) -> EndpointResource {
    EndpointResource {
        name: view.name.clone(),
        ..EndpointResource::default()
    }
}

/// The networks of a container by name.
pub(crate) fn endpoints(view: &ContainerView) -> BTreeMap<String, EndpointSettings> {
    let mode = view.spec.host.network_mode.to_string();
    let joined = predefined()
        .into_iter()
        .find(|network| network.name == mode);
    joined
        .into_iter()
        .map(|network| {
            let asked = view.spec.endpoints.get(&network.name);
            let endpoint = EndpointSettings {
                network_id: network.id,
                aliases: asked.and_then(|asked| super::none_if_empty(&asked.aliases)),
                driver_opts: asked
                    .filter(|asked| !asked.driver_options.is_empty())
                    .map(|asked| super::sorted(&asked.driver_options)),
                ..EndpointSettings::default()
            };
            (network.name, endpoint)
        })
        .collect()
}

/// A container's network state.
pub(crate) fn settings(view: &ContainerView) -> NetworkSettings {
    NetworkSettings {
        ports: Some(BTreeMap::new()),
        networks: Some(endpoints(view)),
        ..NetworkSettings::default()
    }
}
