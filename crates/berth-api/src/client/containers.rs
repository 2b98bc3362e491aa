//! Requests about containers.

use super::{Answer, ByteStream, Call, Client, ClientError, Hijacked, JsonStream, LogStream};
use crate::query::{Query, encode_path};
use crate::{
    ContainerCreateBody, ContainerCreateResponse, ContainerInspect, ContainerPruneReport,
    ContainerStats, ContainerSummary, ContainerTopResponse, ContainerUpdateBody,
    ContainerUpdateResponse, ContainerWaitResponse, Filters, MEDIA_TYPE_MULTIPLEXED_STREAM,
};
use http::header::CONTENT_TYPE;

/// Which containers are listed.
#[derive(Debug, Clone, Default)]
pub struct ContainerListOptions {
    /// Also those that do not run.
    pub all: bool,
    /// At most so many, newest first.
    pub limit: Option<u64>,
    /// With their sizes on disk.
    pub size: bool,
    /// Only those that match.
    pub filters: Filters,
}

/// What is removed with a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct ContainerRemoveOptions {
    /// Its anonymous volumes too.
    pub volumes: bool,
    /// Kill it first.
    pub force: bool,
    /// Remove the link, not the container.
    pub link: bool,
}

/// How a container is stopped.
#[derive(Debug, Clone, Default)]
pub struct StopOptions {
    /// Instead of the container's own signal; empty leaves it.
    pub signal: String,
    /// Seconds until SIGKILL; negative waits for ever; None leaves the container's own.
    pub timeout: Option<i64>,
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run (now or later).
    #[default]
    NotRunning,
    /// It ends the next time.
    NextExit,
    /// It is gone.
    Removed,
}

impl WaitCondition {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            WaitCondition::NotRunning => "not-running",
            WaitCondition::NextExit => "next-exit",
            WaitCondition::Removed => "removed",
        }
    }
}

/// Which of a container's streams are connected.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    /// What was written before, first.
    pub logs: bool,
    /// What is written from now on.
    pub stream: bool,
    /// Send input.
    pub stdin: bool,
    /// Receive standard output.
    pub stdout: bool,
    /// Receive standard error.
    pub stderr: bool,
    /// Keys that end the connection and leave the container running; empty for the engine's default.
    pub detach_keys: String,
}

/// Which part of a log is read.
#[derive(Debug, Clone, Default)]
pub struct LogsOptions {
    /// Go on with what is written later.
    pub follow: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Seconds since 1970 with a fraction, as Docker's clients send it; empty for the beginning.
    pub since: String,
    /// The same; empty for the end.
    pub until: String,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Put the attributes before each line.
    pub details: bool,
    /// Number of lines from the end, or `all`; empty for all.
    pub tail: String,
    /// Whether the container has a terminal; engines before API 1.42 do not tell.
    pub tty: bool,
}

/// How often usage is told.
#[derive(Debug, Clone, Copy, Default)]
pub struct StatsOptions {
    /// Every second, until the client hangs up.
    pub stream: bool,
    /// With `stream` off: do not wait for a second sample.
    pub one_shot: bool,
}

/// An engine that was asked to tell when a container ends; the request is with it already.
#[derive(Debug)]
pub struct ContainerWaiting {
    stream: JsonStream<ContainerWaitResponse>,
    path: String,
}

impl ContainerWaiting {
    /// Waits for the end.
    ///
    /// # Errors
    /// When the connection breaks or the engine ends before the container.
    pub async fn exit(mut self) -> Result<ContainerWaitResponse, ClientError> {
        self.stream
            .next()
            .await?
            .ok_or(ClientError::Incomplete { path: self.path })
    }
}

fn path(id: &str, action: &str) -> String {
    format!("/containers/{}{action}", encode_path(id))
}

impl Client {
    /// Lists containers.
    ///
    /// # Errors
    /// See [`ClientError`]; the same for every method below.
    pub async fn container_list(
        &self,
        options: &ContainerListOptions,
    ) -> Result<Vec<ContainerSummary>, ClientError> {
        let mut query = Query::new();
        query
            .add_flag("all", options.all)
            .add_flag("size", options.size);
        if let Some(limit) = options.limit {
            query.add("limit", limit.to_string());
        }
        add_filters(&mut query, &options.filters);
        self.json(Call::get("/containers/json", &query)).await
    }

    /// Creates a container. `name` and `platform` may be empty.
    pub async fn container_create(
        &self,
        name: &str,
        platform: &str,
        body: &ContainerCreateBody,
    ) -> Result<ContainerCreateResponse, ClientError> {
        let mut query = Query::new();
        query.add_text("name", name).add_text("platform", platform);
        self.json(Call::post("/containers/create", &query).json(body))
            .await
    }

    /// Tells everything about a container; with its sizes on disk if asked.
    pub async fn container_inspect(
        &self,
        id: &str,
        size: bool,
    ) -> Result<ContainerInspect, ClientError> {
        let mut query = Query::new();
        query.add_flag("size", size);
        self.json(Call::get(path(id, "/json"), &query)).await
    }

    /// The same as the engine's own JSON text, for output that keeps unknown fields and order.
    pub async fn container_inspect_raw(
        &self,
        id: &str,
        size: bool,
    ) -> Result<serde_json::Value, ClientError> {
        let mut query = Query::new();
        query.add_flag("size", size);
        self.json(Call::get(path(id, "/json"), &query)).await
    }

    /// Starts a container. False when it ran already.
    pub async fn container_start(&self, id: &str, detach_keys: &str) -> Result<bool, ClientError> {
        let mut query = Query::new();
        query.add_text("detachKeys", detach_keys);
        self.done(Call::post(path(id, "/start"), &query)).await
    }

    /// Stops a container. False when it did not run.
    pub async fn container_stop(
        &self,
        id: &str,
        options: &StopOptions,
    ) -> Result<bool, ClientError> {
        self.done(Call::post(path(id, "/stop"), &stop_query(options)))
            .await
    }

    /// Stops and starts a container.
    pub async fn container_restart(
        &self,
        id: &str,
        options: &StopOptions,
    ) -> Result<(), ClientError> {
        self.done(Call::post(path(id, "/restart"), &stop_query(options)))
            .await
            .map(drop)
    }

    /// Sends a signal; an empty one means SIGKILL.
    pub async fn container_kill(&self, id: &str, signal: &str) -> Result<(), ClientError> {
        let mut query = Query::new();
        query.add_text("signal", signal);
        self.done(Call::post(path(id, "/kill"), &query))
            .await
            .map(drop)
    }

    /// Freezes a container.
    pub async fn container_pause(&self, id: &str) -> Result<(), ClientError> {
        self.done(Call::post(path(id, "/pause"), &Query::new()))
            .await
            .map(drop)
    }

    /// Thaws a container.
    pub async fn container_unpause(&self, id: &str) -> Result<(), ClientError> {
        self.done(Call::post(path(id, "/unpause"), &Query::new()))
            .await
            .map(drop)
    }

    /// Gives a container another name.
    pub async fn container_rename(&self, id: &str, name: &str) -> Result<(), ClientError> {
        let mut query = Query::new();
        query.add("name", name);
        self.done(Call::post(path(id, "/rename"), &query))
            .await
            .map(drop)
    }

    /// Removes a container.
    pub async fn container_remove(
        &self,
        id: &str,
        options: &ContainerRemoveOptions,
    ) -> Result<(), ClientError> {
        let mut query = Query::new();
        query
            .add_flag("v", options.volumes)
            .add_flag("force", options.force)
            .add_flag("link", options.link);
        self.done(Call::delete(path(id, ""), &query))
            .await
            .map(drop)
    }

    /// Removes containers that do not run.
    pub async fn container_prune(
        &self,
        filters: &Filters,
    ) -> Result<ContainerPruneReport, ClientError> {
        let mut query = Query::new();
        add_filters(&mut query, filters);
        self.json(Call::post("/containers/prune", &query)).await
    }

    /// Asks the engine to tell when a container ends; returns as soon as the engine watches.
    pub async fn container_wait(
        &self,
        id: &str,
        condition: WaitCondition,
    ) -> Result<ContainerWaiting, ClientError> {
        let mut query = Query::new();
        query.add("condition", condition.as_str());
        let path = path(id, "/wait");
        let bytes = self.stream(Call::post(path.clone(), &query)).await?;
        Ok(ContainerWaiting {
            stream: JsonStream::new(bytes),
            path,
        })
    }

    /// Connects to a container's streams.
    pub async fn container_attach(
        &self,
        id: &str,
        options: &AttachOptions,
    ) -> Result<Hijacked, ClientError> {
        let mut query = Query::new();
        query
            .add_flag("logs", options.logs)
            .add_flag("stream", options.stream)
            .add_flag("stdin", options.stdin)
            .add_flag("stdout", options.stdout)
            .add_flag("stderr", options.stderr)
            .add_text("detachKeys", &options.detach_keys);
        self.hijacked(Call::post(path(id, "/attach"), &query)).await
    }

    /// Reads a container's log.
    pub async fn container_logs(
        &self,
        id: &str,
        options: &LogsOptions,
    ) -> Result<LogStream, ClientError> {
        let mut query = Query::new();
        query
            .add_flag("follow", options.follow)
            .add_flag("stdout", options.stdout)
            .add_flag("stderr", options.stderr)
            .add_text("since", &options.since)
            .add_text("until", &options.until)
            .add_flag("timestamps", options.timestamps)
            .add_flag("details", options.details)
            .add_text("tail", &options.tail);
        let Answer { response, path, .. } = self.call(Call::get(path(id, "/logs"), &query)).await?;
        let framed = match response
            .headers()
            .get(CONTENT_TYPE)
            .map(|kind| kind.as_bytes())
        {
            Some(kind) if kind == MEDIA_TYPE_MULTIPLEXED_STREAM.as_bytes() => true,
            _ => !self.api_version().at_least(42) && !options.tty,
        };
        Ok(LogStream::new(
            ByteStream::new(response.into_body(), path),
            framed,
        ))
    }

    /// Tells a container's usage.
    pub async fn container_stats(
        &self,
        id: &str,
        options: StatsOptions,
    ) -> Result<JsonStream<ContainerStats>, ClientError> {
        let mut query = Query::new();
        query
            .add("stream", if options.stream { "1" } else { "0" })
            .add_flag("one-shot", options.one_shot);
        Ok(JsonStream::new(
            self.stream(Call::get(path(id, "/stats"), &query)).await?,
        ))
    }

    /// Lists a container's processes with the given options of `ps`.
    pub async fn container_top(
        &self,
        id: &str,
        ps_args: &str,
    ) -> Result<ContainerTopResponse, ClientError> {
        let mut query = Query::new();
        query.add_text("ps_args", ps_args);
        self.json(Call::get(path(id, "/top"), &query)).await
    }

    /// Sets the size of a container's terminal.
    pub async fn container_resize(
        &self,
        id: &str,
        height: u32,
        width: u32,
    ) -> Result<(), ClientError> {
        self.resize(path(id, "/resize"), height, width).await
    }

    /// Sets the size of the terminal behind `path`.
    pub(super) async fn resize(
        &self,
        path: String,
        height: u32,
        width: u32,
    ) -> Result<(), ClientError> {
        let mut query = Query::new();
        query
            .add("h", height.to_string())
            .add("w", width.to_string());
        self.done(Call::post(path, &query)).await.map(drop)
    }

    /// Changes a container's limits and restart policy.
    pub async fn container_update(
        &self,
        id: &str,
        body: &ContainerUpdateBody,
    ) -> Result<ContainerUpdateResponse, ClientError> {
        self.json(Call::post(path(id, "/update"), &Query::new()).json(body))
            .await
    }
}

fn stop_query(options: &StopOptions) -> Query {
    let mut query = Query::new();
    query.add_text("signal", &options.signal);
    if let Some(timeout) = options.timeout {
        query.add("t", timeout.to_string());
    }
    query
}

pub(super) fn add_filters(query: &mut Query, filters: &Filters) {
    if !filters.is_empty() {
        query.add("filters", filters.to_json());
    }
}
