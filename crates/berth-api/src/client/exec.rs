//! Requests about programs run in running containers.

use super::{Call, Client, ClientError, Hijacked};
use crate::query::{Query, encode_path};
use crate::{ExecConfig, ExecInspect, ExecStartConfig, IdResponse};

impl Client {
    /// Prepares a program to be run in a container.
    ///
    /// # Errors
    /// See [`ClientError`]; the same for every method below.
    pub async fn exec_create(
        &self,
        container: &str,
        config: &ExecConfig,
    ) -> Result<IdResponse, ClientError> {
        let path = format!("/containers/{}/exec", encode_path(container));
        self.json(Call::post(path, &Query::new()).json(config))
            .await
    }

    /// Runs it and connects to its streams.
    pub async fn exec_start(
        &self,
        id: &str,
        config: &ExecStartConfig,
    ) -> Result<Hijacked, ClientError> {
        let config = ExecStartConfig {
            detach: false,
            ..config.clone()
        };
        self.hijacked(Call::post(path(id, "/start"), &Query::new()).json(&config))
            .await
    }

    /// Runs it in the background.
    pub async fn exec_start_detached(
        &self,
        id: &str,
        config: &ExecStartConfig,
    ) -> Result<(), ClientError> {
        let config = ExecStartConfig {
            detach: true,
            ..config.clone()
        };
        self.done(Call::post(path(id, "/start"), &Query::new()).json(&config))
            .await
            .map(drop)
    }

    /// Sets the size of its terminal.
    pub async fn exec_resize(&self, id: &str, height: u32, width: u32) -> Result<(), ClientError> {
        self.resize(path(id, "/resize"), height, width).await
    }

    /// Tells its state and exit code.
    pub async fn exec_inspect(&self, id: &str) -> Result<ExecInspect, ClientError> {
        self.json(Call::get(path(id, "/json"), &Query::new())).await
    }
}

fn path(id: &str, action: &str) -> String {
    format!("/exec/{}{action}", encode_path(id))
}
