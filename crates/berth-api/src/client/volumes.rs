//! Requests about volumes.

use super::containers::add_filters;
use super::images::streaming_body;
use super::{ByteStream, Call, Client, ClientError};
use std::collections::BTreeMap;

use tokio::io::AsyncRead;

use crate::query::{Query, encode_path};
use crate::{
    Filters, Volume, VolumeCopyRequest, VolumeCreateRequest, VolumeListResponse, VolumePruneReport,
};

/// A volume that is made of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeImportOptions {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

fn path(name: &str) -> String {
    format!("/volumes/{}", encode_path(name))
}

impl Client {
    /// Lists volumes.
    ///
    /// # Errors
    /// See [`ClientError`]; the same for every method below.
    pub async fn volume_list(&self, filters: &Filters) -> Result<VolumeListResponse, ClientError> {
        let mut query = Query::new();
        add_filters(&mut query, filters);
        self.json(Call::get("/volumes", &query)).await
    }

    /// Tells everything about a volume.
    pub async fn volume_inspect(&self, name: &str) -> Result<Volume, ClientError> {
        self.json(Call::get(path(name), &Query::new())).await
    }

    /// The same as the engine's own JSON, for output that keeps unknown fields and order.
    pub async fn volume_inspect_raw(&self, name: &str) -> Result<serde_json::Value, ClientError> {
        self.json(Call::get(path(name), &Query::new())).await
    }

    /// Makes a volume, or gives the one that is there.
    pub async fn volume_create(
        &self,
        request: &VolumeCreateRequest,
    ) -> Result<Volume, ClientError> {
        self.json(Call::post("/volumes/create", &Query::new()).json(request))
            .await
    }

    /// Removes a volume; with `force` one that is not there is fine.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<(), ClientError> {
        let mut query = Query::new();
        if force {
            query.add("force", "1");
        }
        self.done(Call::delete(path(name), &query)).await.map(drop)
    }

    /// Removes volumes that no container uses.
    pub async fn volume_prune(&self, filters: &Filters) -> Result<VolumePruneReport, ClientError> {
        let mut query = Query::new();
        add_filters(&mut query, filters);
        self.json(Call::post("/volumes/prune", &query)).await
    }

    /// Copies a volume; a snapshot can only be read. Only Berth's engine knows this request and the next.
    pub async fn volume_copy(
        &self,
        name: &str,
        snapshot: bool,
        request: &VolumeCopyRequest,
    ) -> Result<Volume, ClientError> {
        let action = if snapshot { "snapshot" } else { "clone" };
        let path = format!("/berth{}/{action}", path(name));
        self.json(Call::post(path, &Query::new()).json(request))
            .await
    }

    /// Fetches a volume's content as a tar archive.
    pub async fn volume_export(&self, name: &str, live: bool) -> Result<ByteStream, ClientError> {
        let mut query = Query::new();
        if live {
            query.add("live", "1");
        }
        self.stream(Call::get(format!("/berth{}/export", path(name)), &query))
            .await
    }

    /// Makes a volume of a tar archive.
    pub async fn volume_import(
        &self,
        archive: Box<dyn AsyncRead + Send + Unpin>,
        options: &VolumeImportOptions,
    ) -> Result<Volume, ClientError> {
        let mut query = Query::new();
        query.add("name", options.name.as_str());
        for (key, value) in &options.labels {
            query.add("label", format!("{key}={value}"));
        }
        let call =
            Call::post("/berth/volumes/import", &query).header("content-type", "application/x-tar");
        let answer = self.call_streaming(call, streaming_body(archive)).await?;
        self.decode(answer).await
    }

    /// Gives a volume another name.
    pub async fn volume_rename(&self, name: &str, new_name: &str) -> Result<Volume, ClientError> {
        let mut query = Query::new();
        query.add("name", new_name);
        self.json(Call::post(format!("/berth{}/rename", path(name)), &query))
            .await
    }
}
