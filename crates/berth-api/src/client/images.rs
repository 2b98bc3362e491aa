//! Requests about images.

use super::connection::Body;
use super::containers::add_filters;
use super::{ByteStream, Call, Client, ClientError, JsonStream};
use crate::query::{Query, encode_path};
use crate::{
    AuthConfig, Filters, ImageDeleteResponseItem, ImageHistoryItem, ImageInspect, ImagePruneReport,
    ImageSummary, JsonMessage, OciPlatform,
};
use berth_types::Platform;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

/// Which images are listed.
#[derive(Debug, Clone, Default)]
pub struct ImageListOptions {
    /// Also intermediate ones.
    pub all: bool,
    /// Also the size shared with other images.
    pub shared_size: bool,
    /// Also the manifests behind each name.
    pub manifests: bool,
    /// Only those that match.
    pub filters: Filters,
}

/// How an image is removed.
#[derive(Debug, Clone, Default)]
pub struct ImageRemoveOptions {
    /// Even if containers that do not run use it.
    pub force: bool,
    /// Keep its untagged parents.
    pub no_prune: bool,
    /// Only the images for these platforms; everything if none is given.
    pub platforms: Vec<Platform>,
}

/// What is pulled.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// The image's name without tag.
    pub image: String,
    /// Its tag or digest; empty for every tag.
    pub tag: String,
    /// `os/architecture[/variant]`; empty for the engine's own.
    pub platform: String,
    /// Keep the images of all other platforms as well. Berth's own.
    pub all_platforms: bool,
    /// Credentials of its registry.
    pub auth: Option<AuthConfig>,
}

/// What is loaded from an archive.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Without progress.
    pub quiet: bool,
    /// Only these platforms of images that have several; all if none is given.
    pub platforms: Vec<Platform>,
}

/// A platform as the query parameter `platform` has it.
pub(super) fn platform_text(platform: &Platform) -> String {
    let wire = OciPlatform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        ..OciPlatform::default()
    };
    serde_json::to_string(&wire).expect("wire types always serialise")
}

/// A body of what is read.
pub(super) fn streaming_body(archive: impl AsyncRead + Send + 'static) -> Body {
    let chunks =
        ReaderStream::with_capacity(archive, 128 * 1024).map(|chunk| chunk.map(Frame::data));
    BodyExt::boxed_unsync(StreamBody::new(chunks))
}

fn platform_query(platform: Option<&Platform>) -> Query {
    let mut query = Query::new();
    if let Some(platform) = platform {
        query.add("platform", platform_text(platform));
    }
    query
}

pub(super) fn path(name: &str, action: &str) -> String {
    format!("/images/{}{action}", encode_path(name))
}

impl Client {
    /// Lists images.
    ///
    /// # Errors
    /// See [`ClientError`]; the same for every method below.
    pub async fn image_list(
        &self,
        options: &ImageListOptions,
    ) -> Result<Vec<ImageSummary>, ClientError> {
        let mut query = Query::new();
        query
            .add_flag("all", options.all)
            .add_flag("shared-size", options.shared_size)
            .add_flag("manifests", options.manifests);
        add_filters(&mut query, &options.filters);
        self.json(Call::get("/images/json", &query)).await
    }

    /// Tells everything about an image.
    pub async fn image_inspect(&self, name: &str) -> Result<ImageInspect, ClientError> {
        self.json(Call::get(path(name, "/json"), &Query::new()))
            .await
    }

    /// The same as the engine's own JSON, for output that keeps unknown fields and order.
    pub async fn image_inspect_raw(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<serde_json::Value, ClientError> {
        self.json(Call::get(path(name, "/json"), &platform_query(platform)))
            .await
    }

    /// Tells how an image was made, newest step first.
    pub async fn image_history(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Vec<ImageHistoryItem>, ClientError> {
        self.json(Call::get(path(name, "/history"), &platform_query(platform)))
            .await
    }

    /// Gives an image another name.
    pub async fn image_tag(&self, name: &str, repo: &str, tag: &str) -> Result<(), ClientError> {
        let mut query = Query::new();
        query.add("repo", repo).add_text("tag", tag);
        self.done(Call::post(path(name, "/tag"), &query))
            .await
            .map(drop)
    }

    /// Removes a name of an image, and the image with its last name.
    pub async fn image_remove(
        &self,
        name: &str,
        options: &ImageRemoveOptions,
    ) -> Result<Vec<ImageDeleteResponseItem>, ClientError> {
        let mut query = Query::new();
        query
            .add_flag("force", options.force)
            .add_flag("noprune", options.no_prune);
        for platform in &options.platforms {
            query.add("platforms", platform_text(platform));
        }
        self.json(Call::delete(path(name, ""), &query)).await
    }

    /// Removes images without a name that no container uses (with the filter `dangling=false`: all such).
    pub async fn image_prune(&self, filters: &Filters) -> Result<ImagePruneReport, ClientError> {
        let mut query = Query::new();
        add_filters(&mut query, filters);
        self.json(Call::post("/images/prune", &query)).await
    }

    /// Fetches an image from its registry. An error can also be the last object of the stream.
    pub async fn image_pull(
        &self,
        options: &PullOptions,
    ) -> Result<JsonStream<JsonMessage>, ClientError> {
        let mut query = Query::new();
        query
            .add("fromImage", options.image.as_str())
            .add_text("tag", &options.tag)
            .add_text("platform", &options.platform)
            .add_flag("allPlatforms", options.all_platforms);
        let mut call = Call::post("/images/create", &query);
        if let Some(auth) = &options.auth {
            call = call.header("x-registry-auth", &auth.to_header());
        }
        Ok(JsonStream::new(self.stream(call).await?))
    }

    /// Sends a saved archive. An error can also be the last object of the stream.
    pub async fn image_load(
        &self,
        archive: impl AsyncRead + Send + 'static,
        options: &LoadOptions,
    ) -> Result<JsonStream<JsonMessage>, ClientError> {
        let mut query = Query::new();
        query.add("quiet", if options.quiet { "1" } else { "0" });
        for platform in &options.platforms {
            query.add("platform", platform_text(platform));
        }
        let call = Call::post("/images/load", &query).header("content-type", "application/x-tar");
        let answer = self.call_streaming(call, streaming_body(archive)).await?;
        Ok(JsonStream::new(ByteStream::new(
            answer.response.into_body(),
            answer.path,
        )))
    }
}
