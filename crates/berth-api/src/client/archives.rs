//! Requests whose body or answer is an archive.

use super::images::{platform_text, streaming_body};
use super::{ByteStream, Call, Client, ClientError, JsonStream};
use crate::archive::{ContainerPathStat, FilesystemChange, PATH_STAT_HEADER};
use crate::limits::MAX_ERROR_BODY;
use crate::query::{Query, encode_path};
use crate::{IdResponse, ImageWhy, JsonMessage};
use berth_types::Platform;
use http::Method;
use tokio::io::AsyncRead;

/// How files are put into a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// A directory may take the place of a file, and the reverse.
    pub overwrite_kinds: bool,
    /// Everything belongs to the user that the container runs as.
    pub copy_owner: bool,
}

/// What an image is made of.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Its name without tag; empty for none.
    pub repo: String,
    /// Its tag.
    pub tag: String,
    /// Remark in its history.
    pub message: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// `os/architecture[/variant]`; empty for the engine's own.
    pub platform: String,
}

/// How an image is made of a container.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Its name without tag; empty for none.
    pub repo: String,
    /// Its tag.
    pub tag: String,
    /// Remark in its history.
    pub comment: String,
    /// Who made it.
    pub author: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Whether the container goes on meanwhile.
    pub no_pause: bool,
}

fn path(container: &str, action: &str) -> String {
    format!("/containers/{}{action}", encode_path(container))
}

fn path_query(file: &str) -> Query {
    let mut query = Query::new();
    query.add("path", file);
    query
}

impl Client {
    /// Fetches images as one archive.
    ///
    /// # Errors
    /// See [`ClientError`]; the same for every method below.
    pub async fn image_save(
        &self,
        names: &[String],
        platforms: &[Platform],
    ) -> Result<ByteStream, ClientError> {
        let mut query = Query::new();
        for name in names {
            query.add("names", name.as_str());
        }
        for platform in platforms {
            query.add("platform", platform_text(platform));
        }
        self.stream(Call::get("/images/get", &query)).await
    }

    /// Tells what an image's bytes are.
    pub async fn image_why(&self, name: &str) -> Result<ImageWhy, ClientError> {
        let path = format!("/berth/images/{}/why", encode_path(name));
        self.json(Call::get(path, &Query::new())).await
    }

    /// Makes an image of an archive that is sent, or that the engine fetches from `source`, an URL.
    pub async fn image_import(
        &self,
        source: &str,
        archive: Option<Box<dyn AsyncRead + Send + Unpin>>,
        options: &ImportOptions,
    ) -> Result<JsonStream<JsonMessage>, ClientError> {
        let mut query = Query::new();
        query
            .add("fromSrc", source)
            .add_text("repo", &options.repo)
            .add_text("tag", &options.tag)
            .add_text("message", &options.message)
            .add_text("platform", &options.platform);
        for change in &options.changes {
            query.add("changes", change.as_str());
        }
        let call = Call::post("/images/create", &query);
        let stream = match archive {
            None => self.stream(call).await?,
            Some(archive) => {
                let call = call.header("content-type", "application/x-tar");
                let answer = self.call_streaming(call, streaming_body(archive)).await?;
                ByteStream::new(answer.response.into_body(), answer.path)
            }
        };
        Ok(JsonStream::new(stream))
    }

    /// Makes an image of a container.
    pub async fn container_commit(
        &self,
        container: &str,
        options: &CommitOptions,
    ) -> Result<IdResponse, ClientError> {
        let mut query = Query::new();
        query
            .add("container", container)
            .add_text("repo", &options.repo)
            .add_text("tag", &options.tag)
            .add_text("comment", &options.comment)
            .add_text("author", &options.author);
        for change in &options.changes {
            query.add("changes", change.as_str());
        }
        if options.no_pause {
            query.add("pause", "0");
        }
        self.json(Call::post("/commit", &query)).await
    }

    /// Tells in what a container differs from its image.
    pub async fn container_changes(
        &self,
        container: &str,
    ) -> Result<Vec<FilesystemChange>, ClientError> {
        let call = Call::get(path(container, "/changes"), &Query::new());
        Ok(self.json::<Option<_>>(call).await?.unwrap_or_default())
    }

    /// Fetches a container's file system as an archive.
    pub async fn container_export(&self, container: &str) -> Result<ByteStream, ClientError> {
        self.stream(Call::get(path(container, "/export"), &Query::new()))
            .await
    }

    /// Tells what stands at a path of a container.
    pub async fn container_path_stat(
        &self,
        container: &str,
        file: &str,
    ) -> Result<ContainerPathStat, ClientError> {
        let call = Call::new(Method::HEAD, path(container, "/archive"), &path_query(file));
        let answer = self.call(call).await?;
        let stat = path_stat(answer.response.headers(), &answer.path)?;
        self.body(answer, MAX_ERROR_BODY).await?;
        Ok(stat)
    }

    /// Fetches what stands at a path of a container as an archive.
    pub async fn container_archive(
        &self,
        container: &str,
        file: &str,
    ) -> Result<(ContainerPathStat, ByteStream), ClientError> {
        let call = Call::get(path(container, "/archive"), &path_query(file));
        let answer = self.call(call).await?;
        let stat = path_stat(answer.response.headers(), &answer.path)?;
        Ok((
            stat,
            ByteStream::new(answer.response.into_body(), answer.path),
        ))
    }

    /// Extracts an archive into a directory of a container.
    pub async fn container_put_archive(
        &self,
        container: &str,
        directory: &str,
        archive: impl AsyncRead + Send + 'static,
        options: CopyOptions,
    ) -> Result<(), ClientError> {
        let mut query = path_query(directory);
        if !options.overwrite_kinds {
            query.add("noOverwriteDirNonDir", "true");
        }
        if options.copy_owner {
            query.add("copyUIDGID", "true");
        }
        let call = Call::new(Method::PUT, path(container, "/archive"), &query)
            .header("content-type", "application/x-tar");
        let answer = self.call_streaming(call, streaming_body(archive)).await?;
        self.body(answer, MAX_ERROR_BODY).await.map(drop)
    }
}

fn path_stat(headers: &http::HeaderMap, path: &str) -> Result<ContainerPathStat, ClientError> {
    headers
        .get(PATH_STAT_HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(ContainerPathStat::from_header)
        .ok_or_else(|| ClientError::NoPathStat {
            path: path.to_owned(),
        })
}
