//! Requests about networks.

use super::containers::add_filters;
use super::{Call, Client, ClientError};
use crate::query::{Query, encode_path};
use crate::{
    EndpointSettings, Filters, NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse,
    NetworkDisconnectRequest, NetworkInspect, NetworkPruneReport, PortExposure,
};

fn path(id: &str, action: &str) -> String {
    format!("/networks/{}{action}", encode_path(id))
}

fn inspect_call(id: &str, verbose: bool) -> Call {
    let mut query = Query::new();
    if verbose {
        query.add("verbose", "true");
    }
    Call::get(path(id, ""), &query)
}

impl Client {
    /// Lists networks.
    ///
    /// # Errors
    /// See [`ClientError`]; the same for every method below.
    pub async fn network_list(
        &self,
        filters: &Filters,
    ) -> Result<Vec<NetworkInspect>, ClientError> {
        let mut query = Query::new();
        add_filters(&mut query, filters);
        self.json(Call::get("/networks", &query)).await
    }

    /// Tells everything about a network.
    pub async fn network_inspect(&self, id: &str) -> Result<NetworkInspect, ClientError> {
        self.json(inspect_call(id, false)).await
    }

    /// The same as the engine's own JSON, for output that keeps unknown fields and order; with the services
    /// of a cluster if asked.
    pub async fn network_inspect_raw(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<serde_json::Value, ClientError> {
        self.json(inspect_call(id, verbose)).await
    }

    /// Creates a network.
    pub async fn network_create(
        &self,
        request: &NetworkCreateRequest,
    ) -> Result<NetworkCreateResponse, ClientError> {
        self.json(Call::post("/networks/create", &Query::new()).json(request))
            .await
    }

    /// Removes a network.
    pub async fn network_remove(&self, id: &str) -> Result<(), ClientError> {
        self.done(Call::delete(path(id, ""), &Query::new()))
            .await
            .map(drop)
    }

    /// Lets a container join a network.
    pub async fn network_connect(
        &self,
        id: &str,
        container: &str,
        endpoint: EndpointSettings,
    ) -> Result<(), ClientError> {
        let request = NetworkConnectRequest {
            container: container.to_owned(),
            endpoint_config: Some(endpoint),
        };
        self.done(Call::post(path(id, "/connect"), &Query::new()).json(&request))
            .await
            .map(drop)
    }

    /// Lets a container leave a network; with `force` also if the container is gone.
    pub async fn network_disconnect(
        &self,
        id: &str,
        container: &str,
        force: bool,
    ) -> Result<(), ClientError> {
        let request = NetworkDisconnectRequest {
            container: container.to_owned(),
            force,
        };
        self.done(Call::post(path(id, "/disconnect"), &Query::new()).json(&request))
            .await
            .map(drop)
    }

    /// Removes networks that no container uses.
    pub async fn network_prune(
        &self,
        filters: &Filters,
    ) -> Result<NetworkPruneReport, ClientError> {
        let mut query = Query::new();
        add_filters(&mut query, filters);
        self.json(Call::post("/networks/prune", &query)).await
    }

    /// Tells who can reach each published port. Only Berth's engine knows this request.
    pub async fn port_exposures(&self) -> Result<Vec<PortExposure>, ClientError> {
        self.json(Call::get("/berth/ports", &Query::new())).await
    }
}
