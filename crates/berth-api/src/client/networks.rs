//! Requests about networks.

use super::containers::add_filters;
use super::{Call, Client, ClientError};
use crate::query::{Query, encode_path};
use crate::{Filters, NetworkInspect};

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
        self.json(Call::get(
            format!("/networks/{}", encode_path(id)),
            &Query::new(),
        ))
        .await
    }
}
