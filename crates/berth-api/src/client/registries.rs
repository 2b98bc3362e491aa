//! Requests that the engine passes on to registries.

use super::containers::add_filters;
use super::images::{path, platform_text};
use super::{Call, Client, ClientError, JsonStream};
use crate::query::{Query, encode_path};
use crate::{
    AuthConfig, DistributionInspect, Filters, JsonMessage, ManifestListPush, ManifestListPushed,
    ManifestReferrers, RemoteManifest, SearchResult,
};
use berth_types::Platform;

/// What is pushed.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// The image's name without tag.
    pub image: String,
    /// Its tag; empty for every tag.
    pub tag: String,
    /// Only the image for this platform.
    pub platform: Option<Platform>,
    /// Credentials of its registry.
    pub auth: Option<AuthConfig>,
}

/// What is asked about what refers to a manifest.
#[derive(Debug, Clone, Default)]
pub struct ReferrersOptions {
    /// The manifest of this platform behind an index; else the index itself.
    pub platform: Option<Platform>,
    /// Do without TLS and a certificate that verifies.
    pub insecure: bool,
}

impl Client {
    /// Sends an image to its registry. An error can also be the last object of the stream.
    ///
    /// # Errors
    /// See [`ClientError`]; the same for every method below.
    pub async fn image_push(
        &self,
        options: &PushOptions,
    ) -> Result<JsonStream<JsonMessage>, ClientError> {
        let mut query = Query::new();
        query.add_text("tag", &options.tag);
        if let Some(platform) = &options.platform {
            query.add("platform", platform_text(platform));
        }
        // Engines insist on the header, also when it says nothing.
        let auth = options.auth.clone().unwrap_or_default().to_header();
        let call =
            Call::post(path(&options.image, "/push"), &query).header("x-registry-auth", &auth);
        Ok(JsonStream::new(self.stream(call).await?))
    }

    /// Searches a registry.
    pub async fn image_search(
        &self,
        term: &str,
        limit: i32,
        filters: &Filters,
        auth: Option<&AuthConfig>,
    ) -> Result<Vec<SearchResult>, ClientError> {
        let mut query = Query::new();
        query.add("term", term);
        if limit != 0 {
            query.add("limit", limit.to_string());
        }
        add_filters(&mut query, filters);
        self.json(with_auth(Call::get("/images/search", &query), auth))
            .await
    }

    /// Tells what a name stands for in its registry.
    pub async fn distribution_inspect(
        &self,
        name: &str,
        auth: Option<&AuthConfig>,
    ) -> Result<DistributionInspect, ClientError> {
        let address = format!("/distribution/{}/json", encode_path(name));
        self.json(with_auth(Call::get(address, &Query::new()), auth))
            .await
    }

    /// A manifest or index as its registry has it.
    pub async fn manifest_inspect(
        &self,
        name: &str,
        insecure: bool,
        auth: Option<&AuthConfig>,
    ) -> Result<RemoteManifest, ClientError> {
        let mut query = Query::new();
        query.add_flag("insecure", insecure);
        let address = format!("/berth/manifests/{}", encode_path(name));
        self.json(with_auth(Call::get(address, &query), auth)).await
    }

    /// What refers to a manifest in its registry.
    pub async fn manifest_referrers(
        &self,
        name: &str,
        options: &ReferrersOptions,
        auth: Option<&AuthConfig>,
    ) -> Result<ManifestReferrers, ClientError> {
        let mut query = Query::new();
        query.add_flag("insecure", options.insecure);
        if let Some(platform) = &options.platform {
            query.add("platform", platform_text(platform));
        }
        let address = format!("/berth/manifests/{}/referrers", encode_path(name));
        self.json(with_auth(Call::get(address, &query), auth)).await
    }

    /// Puts a list of manifests into a registry.
    pub async fn manifest_push(
        &self,
        name: &str,
        list: &ManifestListPush,
        auth: Option<&AuthConfig>,
    ) -> Result<ManifestListPushed, ClientError> {
        let address = format!("/berth/manifests/{}", encode_path(name));
        let call = Call::put(address, &Query::new()).json(list);
        self.json(with_auth(call, auth)).await
    }
}

fn with_auth(call: Call, auth: Option<&AuthConfig>) -> Call {
    match auth {
        Some(auth) => call.header("x-registry-auth", &auth.to_header()),
        None => call,
    }
}
