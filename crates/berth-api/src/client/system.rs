//! Requests about the engine itself.

use super::containers::add_filters;
use super::{Call, Client, ClientError, JsonStream, Payload};
use crate::limits::MAX_ERROR_BODY;
use crate::query::Query;
use crate::{
    AuthConfig, AuthConfigs, AuthResponse, DiskUsage, EventMessage, Filters, JsonMessage, Ping,
    SystemInfo, SystemVersion,
};
use http::Method;
use http_body_util::{BodyExt, Empty};

/// Which events are told.
#[derive(Debug, Clone, Default)]
pub struct EventsOptions {
    /// Seconds since 1970 with a fraction; empty for now.
    pub since: String,
    /// The same; empty for never ending.
    pub until: String,
    /// Only those that match.
    pub filters: Filters,
}

/// What a check of everything stored is asked for.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// Also compare each unpacked layer with its archive.
    pub deep: bool,
    /// Mend what can be mended.
    pub repair: bool,
    /// Remove images that cannot be mended.
    pub remove: bool,
    /// Credentials for content that has to be fetched again.
    pub auths: AuthConfigs,
}

impl Client {
    /// Asks whether the engine is there, and its version. Needs no agreed version.
    ///
    /// # Errors
    /// See [`ClientError`]; the same for every method below.
    pub async fn ping(&self) -> Result<Ping, ClientError> {
        let call = Call {
            method: Method::HEAD,
            path: "/_ping".to_owned(),
            payload: Payload::None,
            headers: Vec::new(),
            hijack: false,
        };
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = self.request(&call, None, body)?;
        let answer = self.send(&call, request).await?;
        let answer = self.check(answer).await?;
        let text = |name: &str| -> String {
            let value = answer
                .response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let ping = Ping {
            api_version: text("api-version").parse().ok(),
            os_type: text("ostype"),
            experimental: text("docker-experimental") == "true",
            builder_version: text("builder-version"),
            server: text("server"),
        };
        self.body(answer, MAX_ERROR_BODY).await?;
        Ok(ping)
    }

    /// Tells the versions of the engine and its parts.
    pub async fn version(&self) -> Result<SystemVersion, ClientError> {
        self.json(Call::get("/version", &Query::new())).await
    }

    /// Tells facts about the engine and its host.
    pub async fn info(&self) -> Result<SystemInfo, ClientError> {
        self.json(Call::get("/info", &Query::new())).await
    }

    /// Tells disk usage of the given kinds (`container`, `image`, `volume`, `build-cache`); all if none is given.
    pub async fn disk_usage(&self, kinds: &[&str]) -> Result<DiskUsage, ClientError> {
        let mut query = Query::new();
        for kind in kinds {
            query.add("type", *kind);
        }
        self.json(Call::get("/system/df", &query)).await
    }

    /// Checks what is stored; the last object of the stream has the [`crate::CheckReport`] as `aux`.
    pub async fn system_check(
        &self,
        options: &CheckOptions,
    ) -> Result<JsonStream<JsonMessage>, ClientError> {
        let mut query = Query::new();
        query
            .add_flag("deep", options.deep)
            .add_flag("repair", options.repair)
            .add_flag("remove", options.remove);
        let mut call = Call::post("/berth/system/check", &query);
        if !options.auths.0.is_empty() {
            call = call.header("x-registry-config", &options.auths.to_header());
        }
        Ok(JsonStream::new(self.stream(call).await?))
    }

    /// Tells what happens.
    pub async fn events(
        &self,
        options: &EventsOptions,
    ) -> Result<JsonStream<EventMessage>, ClientError> {
        let mut query = Query::new();
        query
            .add_text("since", &options.since)
            .add_text("until", &options.until);
        add_filters(&mut query, &options.filters);
        Ok(JsonStream::new(
            self.stream(Call::get("/events", &query)).await?,
        ))
    }

    /// Checks credentials with their registry.
    pub async fn auth(&self, auth: &AuthConfig) -> Result<AuthResponse, ClientError> {
        self.json(Call::post("/auth", &Query::new()).json(auth))
            .await
    }
}
